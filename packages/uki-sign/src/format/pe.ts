// PE/COFF as UEFI loads it: offsets, sizes and flags only.
// Microsoft "PE Format" specification, revision 2024 (https://learn.microsoft.com/windows/win32/debug/pe-format),
// sections "MS-DOS Stub", "COFF File Header", "Optional Header", "Section Table", "The Attribute Certificate Table".
// All integers are little-endian; offsets are in bytes from the start of the structure the constant names.

/** `MZ`, first two bytes of the file */
export const DOS_MAGIC = 0x5a4d;
/** `e_lfanew`, u32: file offset of the PE signature */
export const DOS_PE_OFFSET = 0x3c;

/** `PE\0\0` */
export const PE_MAGIC = 0x0000_4550;
/** size of the PE signature */
export const PE_MAGIC_SIZE = 4;

/** size of the COFF file header, which follows the PE signature */
export const COFF_HEADER_SIZE = 20;
export const COFF_MACHINE = 0;
export const COFF_NUMBER_OF_SECTIONS = 2;
export const COFF_TIME_DATE_STAMP = 4;
export const COFF_POINTER_TO_SYMBOL_TABLE = 8;
export const COFF_NUMBER_OF_SYMBOLS = 12;
export const COFF_SIZE_OF_OPTIONAL_HEADER = 16;
export const COFF_CHARACTERISTICS = 18;

/** size of one entry of the symbol table, which the string table follows: u32 size of that, itself included, and names */
export const SYMBOL_SIZE = 18;

/** `Machine` of x86-64 */
export const MACHINE_AMD64 = 0x8664;

/** optional header magic of PE32+ (64-bit) */
export const PE32_PLUS_MAGIC = 0x20b;
/** size of the PE32+ optional header without data directories */
export const OPTIONAL_HEADER_SIZE = 112;
export const OPTIONAL_SIZE_OF_INITIALIZED_DATA = 8;
export const OPTIONAL_ENTRY_POINT = 16;
export const OPTIONAL_IMAGE_BASE = 24;
export const OPTIONAL_SECTION_ALIGNMENT = 32;
export const OPTIONAL_FILE_ALIGNMENT = 36;
/** largest `FileAlignment` the specification allows */
export const MAX_FILE_ALIGNMENT = 0x1_0000;
export const OPTIONAL_SIZE_OF_IMAGE = 56;
export const OPTIONAL_SIZE_OF_HEADERS = 60;
export const OPTIONAL_CHECKSUM = 64;
export const OPTIONAL_SUBSYSTEM = 68;
export const OPTIONAL_DLL_CHARACTERISTICS = 70;
export const OPTIONAL_NUMBER_OF_DIRECTORIES = 108;

/** `DllCharacteristics`: the image works with pages that are never both writable and executable */
export const DLL_NX_COMPAT = 0x0100;

/** size of one data directory entry: u32 address, u32 size */
export const DIRECTORY_SIZE = 8;
/** most data directories the specification defines */
export const MAX_DIRECTORIES = 16;
/** index of the certificate table; its address is a file offset, unlike all others */
export const DIRECTORY_CERTIFICATES = 4;
/** index of the debug directory, whose entries hold file offsets */
export const DIRECTORY_DEBUG = 6;

/** size of one section header */
export const SECTION_HEADER_SIZE = 40;
/** size of the name, NUL-padded when shorter */
export const SECTION_NAME_SIZE = 8;
export const SECTION_VIRTUAL_SIZE = 8;
export const SECTION_VIRTUAL_ADDRESS = 12;
export const SECTION_SIZE_OF_RAW_DATA = 16;
export const SECTION_POINTER_TO_RAW_DATA = 20;
export const SECTION_POINTER_TO_RELOCATIONS = 24;
export const SECTION_POINTER_TO_LINENUMBERS = 28;
export const SECTION_CHARACTERISTICS = 36;

/** section holds executable code */
export const SCN_CNT_CODE = 0x0000_0020;
/** section holds initialised data */
export const SCN_CNT_INITIALIZED_DATA = 0x0000_0040;
/** section can be read */
export const SCN_MEM_READ = 0x4000_0000;

/** size of a WIN_CERTIFICATE header: u32 length (header included), u16 revision, u16 type */
export const WIN_CERTIFICATE_HEADER_SIZE = 8;
export const WIN_CERTIFICATE_REVISION = 4;
export const WIN_CERTIFICATE_TYPE = 6;
export const WIN_CERT_REVISION_2_0 = 0x0200;
export const WIN_CERT_TYPE_PKCS_SIGNED_DATA = 0x0002;
/** every WIN_CERTIFICATE starts at a multiple of this file offset */
export const CERTIFICATE_ALIGNMENT = 8;
