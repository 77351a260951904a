#!/bin/sh
# The first process of the tiny guest: network, services, and an orderly end when the power button is pressed.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc none /proc
mount -t sysfs none /sys
mount -t tmpfs none /run
mount -t tmpfs none /tmp
hostname tiny
ip link set lo up
ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0 && ip route add default via 10.0.2.2
echo "tiny guest: root on $(sed -n 's/^\([^ ]*\) \/ ext4.*/\1/p' /proc/mounts), network by $(basename "$(readlink -f /sys/class/net/eth0/device/driver)")"
for service in /etc/init.d/*; do
    [ ! -x "$service" ] || "$service" start
done
mkfifo /run/power
for button in /dev/input/event*; do
    (head -c 1 "$button" > /dev/null && echo pressed > /run/power) &
done
echo "tiny guest: up"
read -r _ < /run/power
echo "tiny guest: going down"
kill -TERM -1
tries=0
while pidof python3.11 > /dev/null && [ $tries -lt 50 ]; do
    tries=$((tries + 1))
    sleep 0.1
done
kill -KILL -1
mount -o remount,ro /
sync
poweroff -f
