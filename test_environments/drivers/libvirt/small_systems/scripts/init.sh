#!/bin/busybox sh
# The first process of the small system that runs errands for the driver and captures physical machines.
# It does one errand, named on the kernel's command line, and switches the machine off.
export PATH=/bin
mount -t devtmpfs none /dev
mount -t proc none /proc
mount -t sysfs none /sys
mount -t tmpfs none /run
load() {
    while read -r module; do
        insmod "/modules/$module" 2>/dev/null
    done < "/modules/$1.order"
}
load hardware
errand=hello
for word in $(cat /proc/cmdline); do
    case $word in
    itsm.errand=*) errand=${word#*=} ;;
    esac
done
order=/dev/vda
report=/run/report
: > $report

# Writes the result over the order, where the driver reads it, and switches off: finish ok | finish failed <why>
finish() {
    { echo "ITSM1 $*"; head -c 60000 $report; echo; echo END; } > /run/result
    dd if=/run/result of=$order bs=512 conv=sync,notrunc,fsync 2>/dev/null
    sync
    poweroff -f
}

. "/errands/$errand.sh"
finish ok
