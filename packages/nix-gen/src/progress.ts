/** One observation of a long step, for whoever draws it. */
export interface ProgressEvent {
  /** what is being done: `downloading packages` */
  readonly step: string;
  /** the one thing in hand */
  readonly item?: string;
  /** things finished, and in all */
  readonly done?: number;
  readonly total?: number;
  /** bytes finished, and in all */
  readonly doneBytes?: number;
  readonly totalBytes?: number;
}

/** Receives progress; must not throw. */
export type Progress = (event: ProgressEvent) => void;
