// What a frontend gets wrong, and the compiler finds: test_typescript.py compares the errors with the comments.
import type { ChatKitOptions } from "@openai/chatkit";
import type { ClientToolCall, ClientToolHandlers, ClientToolResult, OnClientTool } from "./canvas";

export function wrongNamesAndFields(call: ClientToolCall): unknown {
  switch (call.name) {
    case "run_search_animatoin": // TS2678
      return null;
    case "run_search_animation":
      return [
        call.params.stat, // TS2551
        call.params.nodes, // TS2339
        call.params.state === "paused", // TS2367
        call.result, // TS2339
      ];
    case "draw_canvas":
      return call.params.nodes[0].colour.length; // TS2531
  }
}

export function forgottenTool(call: ClientToolCall): string {
  switch (call.name) {
    case "run_search_animation":
    case "draw_canvas":
    case "get_selection":
    case "list_layers":
      return call.name;
    default: {
      const never: never = call; // TS2322
      return never;
    }
  }
}

// prettier-ignore
export const noAnswer: OnClientTool = (call) => { // TS2322
  switch (call.name) {
    case "ask":
      return { answer: 42 };
  }
};

export const notAnObject: OnClientTool = () => ["front", "back"]; // TS2322

// prettier-ignore
export const incomplete: ClientToolHandlers = { // TS2741
  run_search_animation: () => {},
  draw_canvas: () => {},
  get_selection: () => ({ nodes: [] }),
  list_layers: () => [],
};

export const handlers: ClientToolHandlers = {
  run_search_animation: (params) => params.spead, // TS2551
  draw_canvas: ({ theme }) => theme === "blue", // TS2367
  get_selection: () => ({ nodes: [{ lable: "circle" }] }), // TS2561
  list_layers: async () => [1, 2], // TS2322
  ask: () => 42,
};

export const misspelt: Partial<ClientToolHandlers> = {
  draw_canvsa: () => {}, // TS2561
};

export const wrongResults: Pick<ClientToolHandlers, "get_selection" | "list_layers"> = {
  get_selection: () => {}, // TS2322
  list_layers: () => ({ error: 404 }), // TS2322
};

export const tooLong: ClientToolResult<"get_selection"> = { nodes: [], at: [1, 2, 3] }; // TS2322
export const unknownTool: ClientToolResult<"get_selektion"> | null = null; // TS2344

// ChatKit.js takes calls of any name; a handler of these only has to be told that there are no others.
export const uncast: ChatKitOptions["onClientTool"] = (call) => ({ tool: forgottenTool(call) }); // TS2345
