# Takes what the boot partition and the unified kernel image are made of out of the installed system.
#
#   installed  directory with system.tar
mkdir -p /build/target "$out"
tar --extract --file "$installed/system.tar" --directory /build/target --no-same-owner --no-same-permissions --wildcards \
  './boot/vmlinuz-*' './usr/lib/systemd/boot/efi/*' './usr/lib/os-release'
kernels=(/build/target/boot/vmlinuz-*)
[ ${#kernels[@]} = 1 ] || { echo "expected one kernel in the packages, got ${kernels[*]}"; exit 1; }
cp "${kernels[0]}" "$out/linux"
printf '%s' "${kernels[0]##*/vmlinuz-}" > "$out/uname"
cp /build/target/usr/lib/os-release "$out/os-release"
cp /build/target/usr/lib/systemd/boot/efi/linuxx64.efi.stub /build/target/usr/lib/systemd/boot/efi/systemd-bootx64.efi "$out/"
