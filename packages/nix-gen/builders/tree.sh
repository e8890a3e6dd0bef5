# Unpacks packages without configuring them: programs to build with, not what ends up in an image.
#
#   busybox   a static busybox     packagesPath  file with the list of packages     out  the tree
$busybox mkdir "$out"
for package in $($busybox cat "$packagesPath"); do
  $busybox dpkg-deb -x "$package" "$out" || { echo "expected an intact Debian package, got $package"; exit 1; }
done
# Packages of releases before the merge of /usr have files on both sides of it.
for d in bin lib lib64 sbin; do
  if [ -d "$out/$d" ] && [ ! -L "$out/$d" ]; then
    $busybox mkdir -p "$out/usr/$d"
    $busybox cp -a "$out/$d/." "$out/usr/$d/"
    $busybox rm -rf "$out/$d"
  fi
  if [ -d "$out/usr/$d" ] && [ ! -L "$out/$d" ]; then $busybox ln -s "usr/$d" "$out/$d"; fi
done
$busybox mkdir -p "$out/etc" "$out/usr"
