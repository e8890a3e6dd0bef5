# Takes what the boot partition and the unified kernel image are made of out of the installed system.
#
#   installed  directory with system.tar     functions  kernel.sh
. "$functions"
target=/build/target
mkdir -p "$target" "$out"
tar --extract --file "$installed/system.tar" --directory "$target" --no-same-owner --no-same-permissions --wildcards \
  './boot/vmlinuz-*' './usr/lib/systemd/boot/efi/*' './usr/lib/os-release'
find_kernel
cp "$kernel" "$out/linux"
printf '%s' "$release" > "$out/uname"
cp "$target"/usr/lib/os-release "$out/os-release"
cp "$target"/usr/lib/systemd/boot/efi/linuxx64.efi.stub "$target"/usr/lib/systemd/boot/efi/systemd-bootx64.efi "$out/"
