# Unpacks $packages without configuring them: what the builders run, not what ends up in an image.
$busybox mkdir "$out"
for package in $packages; do
  $busybox dpkg-deb -x "$package" "$out"
done
