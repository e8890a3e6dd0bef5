/** Directory beside the description for everything that can be made again. */
export const STATE_DIRECTORY = ".leveret";

/** Directory beside the description for images. */
export const IMAGES_DIRECTORY = "images";
