# Tries from the place of an environment in the network to reach what the order lists: host and port, one a line.
mkdir -p /run/order
tar -xf $order -C /run/order || finish failed the order cannot be read
ip link set lo up
# Without a network card every target is tried nevertheless.
if ip link set eth0 up; then
    ip addr add 10.0.2.15/24 dev eth0
    ip route add default via 10.0.2.2
fi
while read -r host port; do
    # -e needs a connection before it runs anything
    if nc -w 4 "$host" "$port" -e /bin/true < /dev/null 2>/dev/null; then
        echo "reached $host $port" >> $report
    else
        echo "closed $host $port" >> $report
    fi
done < /run/order/targets
