/** The types of client-tools.js. They fit `@openai/chatkit`, and do not need it. */

/** A client tool call, as ChatKit.js hands it to `onClientTool`. */
export interface ClientToolCall {
  name: string;
  params: Record<string, any>;
}

/** What a handler gets besides the call. */
export interface ClientToolOptions {
  /** Aborts when the time of the call is over, and with `cancelRunning()`: what is returned after that is ignored. */
  signal: AbortSignal;
}

/** One function for all tools: the params come without the receipt. It may be async, and may throw. */
export type ClientToolHandler<Call = ClientToolCall> = (call: Call, options: ClientToolOptions) => unknown;

/** One function for each tool, by the tool's name. */
export type ClientToolHandlersOf<Handlers> = { [Name in keyof Handlers]: (params: any, options: ClientToolOptions) => unknown };

/** What is used of sessionStorage. */
export type ReceiptStorage = Pick<Storage, "getItem" | "setItem" | "removeItem" | "key" | "length">;

export interface ReceiptOptions {
  /** Where answers survive a reload; `null` for nowhere. Default: sessionStorage, if the page may use it. */
  storage?: ReceiptStorage | null;
  /** How many receipts are remembered. Default: 256. */
  remember?: number;
  /** Told of what became an error answer. Default: writes it to the console. */
  onError?: (error: unknown, call: ClientToolCall) => unknown;
}

/**
 * For ChatKit's `onClientTool`. It never throws and never rejects. With a receipt the answer is an object,
 * `{_receipt, result}` or `{_receipt, error}`; without one it is what the handler returned, or `{error}`.
 */
export type OnClientTool = (call: ClientToolCall) => Promise<any>;

/** Make ChatKit's `onClientTool` of one function for all tools. */
export function withReceipts<Call extends { name: string; params: object } = ClientToolCall>(
  handler: ClientToolHandler<Call>,
  options?: ReceiptOptions,
): OnClientTool;

/** Make ChatKit's `onClientTool` of an object with one function for each tool. */
export function withReceipts<Handlers extends object & ClientToolHandlersOf<Handlers>>(
  handlers: Handlers,
  options?: ReceiptOptions,
): OnClientTool;

/** What a handler throws when the user does not want what the call asks for: that is no error of the page. */
export class Denied extends Error {
  constructor();
}

/** Abort whatever handlers run on this page; their calls are answered as failed, and not remembered. */
export function cancelRunning(): void;

/** The action that puts a thread with an unanswered call back in motion: `chatkit.sendCustomAction(RESUME)`. */
export const RESUME: Readonly<{ type: "chatkit_clienttools.resume"; payload: Readonly<Record<string, never>> }>;

/** What is used of the `<openai-chatkit>` element. */
export interface Resumable {
  sendCustomAction(action: { type: string; payload?: Record<string, unknown> }): Promise<void>;
  addEventListener(type: "chatkit.thread.load.end", listener: () => void): void;
  removeEventListener(type: "chatkit.thread.load.end", listener: () => void): void;
}

/** Send RESUME whenever ChatKit has loaded a thread; the function that is returned stops it. */
export function resumeOnLoad(chatkit: Resumable, options?: { onError?: (error: unknown) => unknown }): () => void;

export interface ClientImageOptions {
  /** How long the longer edge may be, in pixels. Default: 2048. */
  maxEdge?: number;
  /** How long the data URL may be. The picture gets smaller until it fits. Default: 4 MiB. */
  maxBytes?: number;
  /** As in `canvas.toBlob`. Default: the type of the Blob, or PNG. */
  type?: "image/png" | "image/jpeg" | "image/webp";
  /** As in `canvas.toBlob`: from 0 to 1, for JPEG and WebP. */
  quality?: number;
  /** How closely the model is to look. */
  detail?: "auto" | "low" | "high";
}

/** Make an answer, or a part of one, that the server reads as a `ClientImage`; small enough to be sent. */
export function clientImage(
  source: ImageBitmapSource,
  options?: ClientImageOptions,
): Promise<{ data_url: string; detail?: "auto" | "low" | "high" }>;

export interface ClientFileOptions {
  /** Default: the name of the File, if it is one. */
  filename?: string;
  /** Its media type, if the browser does not know it. */
  type?: string;
  /** How long the data URL may be; a longer one throws. Default: 8 MiB, as at the server. */
  maxBytes?: number;
}

/** Make an answer, or a part of one, that the server reads as a `ClientFile`. */
export function clientFile(blob: Blob, options?: ClientFileOptions): Promise<{ data_url: string; filename?: string }>;
