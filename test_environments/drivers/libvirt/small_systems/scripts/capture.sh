# Sends the disk of the physical machine to the receiver. Nothing of it is mounted, and it is set read-only first.
say() {
    for screen in /dev/tty0 /dev/ttyS0; do
        echo "capture: $*" > $screen
    done 2>/dev/null
}
stop() { say "$*"; say "Nothing was changed on this machine. It is switched off in a minute."; sleep "${pause:-60}"; poweroff -f; }
[ -f /capture/settings ] || stop "this medium has no settings: make it in the portal"
. /capture/settings # written by the portal: receiver, port, token, disk, address, pause

ip link set lo up
for card in /sys/class/net/e*; do
    card=${card##*/}
    ip link set "$card" up
    if [ -n "$address" ]; then
        ip addr add "$address" dev "$card" && break
    else
        udhcpc -q -n -t 5 -i "$card" -s /errands/udhcpc.sh && break
    fi
done
[ -z "$gateway" ] || ip route add default via "$gateway"

disks=
for entry in /sys/block/*; do
    name=${entry##*/}
    case $name in ram* | loop* | sr* | fd* | dm-* | md*) continue ;; esac
    [ "$(cat "$entry/removable")" = 0 ] && [ "$(cat "$entry/size")" != 0 ] || continue
    case $(readlink -f "$entry") in */usb*) continue ;; esac
    disks="$disks $name"
done
if [ -z "$disk" ]; then
    set -- $disks
    [ $# = 1 ] || stop "name one of these disks in the portal:$disks"
    disk=$1
fi
[ -b "/dev/$disk" ] || stop "there is no disk $disk; there are:$disks"
for part in "/dev/$disk" "/dev/$disk"[0-9]* "/dev/${disk}p"[0-9]*; do
    [ ! -b "$part" ] || blockdev --setro "$part" || stop "$part cannot be set read-only"
done
size=$(blockdev --getsize64 "/dev/$disk")
text() { tr -d '\000-\037"\\' < "$1" 2>/dev/null | head -c 200; }
{
    printf '{"maker": "%s", "model": "%s", ' "$(text /sys/class/dmi/id/sys_vendor)" "$(text /sys/class/dmi/id/product_name)"
    printf '"firmware": "%s", "processor": "%s", ' "$([ -d /sys/firmware/efi ] && echo uefi || echo bios)" \
        "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1 | tr -d '"\\')"
    printf '"memory_kb": %s, "disk": "%s", "disk_bytes": %s, ' \
        "$(sed -n 's/^MemTotal: *\([0-9]*\).*/\1/p' /proc/meminfo)" "$disk" "$size"
    printf '"disk_model": "%s", "disk_driver": "%s", "disks": "%s", "network": [' "$(text "/sys/block/$disk/device/model")" \
        "$(driver=$(readlink -f "/sys/block/$disk/device/driver"); echo "${driver##*/}")" "${disks# }"
    comma=
    for card in /sys/class/net/e*; do
        driver=$(readlink -f "$card/device/driver")
        printf '%s{"name": "%s", "address": "%s", "driver": "%s"}' "$comma" "${card##*/}" "$(text "$card/address")" "${driver##*/}"
        comma=", "
    done
    printf ']}\n'
} > /run/inventory

say "sending /dev/$disk, $size bytes, to $receiver:$port"
mkfifo /run/copy
send() {
    sha256sum < /run/copy > /run/sum &
    printf 'ITSM-CAPTURE 1\n%s\n%s\n' "$token" "$(cat /run/inventory)"
    printf '%s\n' "$size"
    tee /run/copy < "/dev/$disk"
    wait
    head -c 64 /run/sum
    printf '\n'
}
send | openssl s_client -quiet -no_check_time -verify 1 -verify_return_error -CAfile /capture/receiver.pem \
    -verify_hostname capture -connect "$receiver:$port" > /run/answer 2> /run/trouble
if grep -q '^accepted ' /run/answer; then
    say "$(cat /run/answer)"
    poweroff -f
fi
stop "not accepted: $(cat /run/answer) $(tail -n 2 /run/trouble)"
