// Software publisher certificate structures inside an Authenticode signature.
// Microsoft "Windows Authenticode Portable Executable Signature Format" (2008), "Authenticode-Specific Structures".

/** SPC_PE_IMAGE_DATAOBJ: the signed thing is a PE image */
export const OID_SPC_PE_IMAGE_DATA = "1.3.6.1.4.1.311.2.1.15";

/** SPC_INDIVIDUAL_SP_KEY_PURPOSE_OBJID: what pesign writes in its place, and firmware accepts */
export const OID_SPC_INDIVIDUAL_CODE_SIGNING = "1.3.6.1.4.1.311.2.1.21";

/** what the format prescribes as the image's file name */
export const SPC_FILE_NAME = "<<<Obsolete>>>";

/** SpcLink CHOICE `file`, explicit */
export const SPC_LINK_FILE = 2;
/** SpcString CHOICE `unicode`, implicit BMPString */
export const SPC_STRING_UNICODE = 0;
/** SpcPeImageData `file`, explicit */
export const SPC_IMAGE_FILE = 0;
