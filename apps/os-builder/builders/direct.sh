# Makes what a direct kernel boot takes out of the installed system and the description's own files: $out/root.erofs, all
# of it as one file system; $out/linux, the kernel; $out/initrd, from which the harness's agent goes to that root.
#
#   configure  configure.sh, and what it takes     modules  kernel modules, with whatever they depend on
#   uuid    of the file system                 compression  of mkfs.erofs
. "$configure"
kernels=("$target"/boot/vmlinuz-*)
[ ${#kernels[@]} = 1 ] || { echo "expected one kernel in the packages, got ${kernels[*]}"; exit 1; }
release=${kernels[0]##*/vmlinuz-}
mkdir "$out"
cp "${kernels[0]}" "$out/linux"

initrd=/build/initrd
mkdir -p "$initrd/leveret"
printf 'erofs /dev/vda\n' > "$initrd/leveret/root"
for module in $modules; do
  modprobe --dirname "$target/usr" --set-version "$release" --show-depends "$module" > /build/depends ||
    { echo "expected the kernel module $module in $release, found none"; exit 1; }
  sed -n 's/^insmod \([^ ]*\).*/\1/p' /build/depends
done | mawk '!known[$0]++' | while read -r file; do
  name=${file##*/}
  plain=leveret/${name%.xz}
  case $file in *.xz) xz --decompress --stdout "$file" > "$initrd/$plain" ;; *) cp "$file" "$initrd/$plain" ;; esac
  echo "/$plain" >> "$initrd/leveret/modules"
done
(
  cd "$initrd"
  find . -exec touch --no-dereference --date="@$epoch" {} +
  find . -mindepth 1 -print0 | LC_ALL=C sort -z |
    cpio --null --create --format=newc --owner=0:0 --reproducible --quiet > "$out/initrd"
)

rm -rf "$target/boot" "$target/var/cache" "$target/var/lib/apt" "$target/etc/.pwd.lock"
mkdir -p "$target"/{dev,proc,run,sys,tmp,workspace}
chmod 1777 "$target/tmp"
: > "$target/etc/machine-id"
find "$target" -newermt "@$epoch" -exec touch --no-dereference --date="@$epoch" {} +
mkfs.erofs --quiet -T "$epoch" --mkfs-time -U "$uuid" $compression "$out/root.erofs" "$target"
