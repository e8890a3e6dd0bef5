# Makes what a direct kernel boot takes out of the installed system and the description's own files: $out/root.erofs, all
# of it as one file system; $out/linux, the kernel; $out/initrd, from which the harness's agent goes to that root.
#
#   configure  configure.sh, and what it takes    functions    kernel.sh
#   uuid       of the file system                 compression  of mkfs.erofs
#   modules    kernel modules, with whatever they depend on
. "$configure"
. "$functions"
find_kernel
mkdir "$out"
cp "$kernel" "$out/linux"

initrd=/build/initrd
mkdir -p "$initrd/leveret"
printf 'erofs /dev/vda\n' > "$initrd/leveret/root"
module_files > /build/modules
while read -r file; do
  name=${file##*/}
  plain=/leveret/${name%.xz}
  copy_module "$file" "$initrd$plain"
  echo "$plain" >> "$initrd/leveret/modules"
done < /build/modules
(archive "$initrd") > "$out/initrd"

rm -rf "$target/boot" "$target/var/cache" "$target/var/lib/apt" "$target/etc/.pwd.lock"
mkdir -p "$target"/{dev,proc,run,sys,tmp,workspace}
chmod 1777 "$target/tmp"
: > "$target/etc/machine-id"
find "$target" -newermt "@$epoch" -exec touch --no-dereference --date="@$epoch" {} +
mkfs.erofs --quiet -T "$epoch" --mkfs-time -U "$uuid" $compression "$out/root.erofs" "$target"
