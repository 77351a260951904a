# Changes the second disk as the order says, with its own file system checked and opened only in this machine: takes out
# what a copy must not have, writes what it needs, and reports what is in it.
mkdir -p /run/order /target
tar -xf $order -C /run/order || finish failed the order cannot be read
found=
for type in ext4 xfs; do
    load $type
    for part in /dev/vdb[0-9]* /dev/vdb; do
        [ -b "$part" ] || continue
        mount -t $type "$part" /target 2>/dev/null || continue
        [ -d /target/etc ] && found=$part && break 2
        umount /target
    done
done
[ -n "$found" ] || finish failed no ext4 or xfs file system with a folder etc was found on the disk
echo "system_disk $found $type" >> $report

# All paths are resolved inside the disk, whatever links it holds.
work=/target/.test-environment
rm -rf $work
mkdir $work && mount -t tmpfs none $work || finish failed the disk cannot be written
cp -r /run/order/. $work
mkdir $work/bin
cp /bin/busybox $work/bin
for name in sh rm mkdir cp mv ln chmod cat sed find dirname readlink head tr base64 ls cmp; do
    ln -s busybox $work/bin/$name
done
cp /errands/apply.sh $work
chroot /target /.test-environment/bin/busybox sh /.test-environment/apply.sh
ended=$?
cat $work/report >> $report
umount $work
rmdir $work
umount /target || finish failed the disk cannot be closed
[ $ended = 0 ] || finish failed "$(sed -n 's/^failed //p' $report)"
