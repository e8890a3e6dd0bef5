/**
 * Partition types by name; the names are those of `systemd-repart` and `systemd-id128 show`.
 *
 * @see UAPI.2 Discoverable Partitions Specification, "Partition Names"; UEFI Specification 2.10, table 5.7
 */
export const PARTITION_TYPES = {
  esp: "c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
  xbootldr: "bc13c2ff-59e6-4262-a352-b275fd6f7172",
  swap: "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f",
  home: "933ac7e1-2eb4-4f13-b844-0e14e2aef915",
  srv: "3b8f8425-20e0-4f3b-907f-1a25a76f98e8",
  var: "4d21b016-b534-45c2-a9fb-5c16e091fd2d",
  tmp: "7ec6f557-3bc5-4aca-b293-16ef5df639d1",
  "user-home": "773f91ef-66d4-49b5-bd83-d683bf40ad16",
  "linux-generic": "0fc63daf-8483-4772-8e79-3d69d8477de4",
  "root-x86-64": "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
  "root-x86-64-verity": "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5",
  "root-x86-64-verity-sig": "41092b05-9fc8-4523-994f-2def0408b176",
  "usr-x86-64": "8484680c-9521-48c6-9c11-b0720656f69e",
  "usr-x86-64-verity": "77ff5f63-e7b6-4633-acf4-1565b864c0e6",
  "usr-x86-64-verity-sig": "e7bb33fb-06cf-4e81-8273-e543b413e2e2",
  "root-arm64": "b921b045-1df0-41c3-af44-4c6f280d3fae",
  "root-arm64-verity": "df3300ce-d69f-4c92-978c-9bfb0f38d820",
  "root-arm64-verity-sig": "6db69de6-29f4-4758-a7a5-962190f00ce3",
  "usr-arm64": "b0e01050-ee5f-4390-949a-9101b17104e9",
  "usr-arm64-verity": "6e11a4e7-fbca-4ded-b9e9-e1a512bb664e",
  "usr-arm64-verity-sig": "c23ce4ff-44bd-4b00-b2d4-b41b3419e02a",
} as const;
