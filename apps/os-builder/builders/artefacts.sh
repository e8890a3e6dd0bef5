# Links to everything that was built, under one name each: one thing to build and to keep.
#
#   parts  name=path of each
$busybox mkdir "$out"
for part in $parts; do
  $busybox ln -s "${part#*=}" "$out/${part%%=*}"
done
