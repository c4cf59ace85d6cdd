// What a frontend writes, and the compiler accepts: test_typescript.py compiles it with the types of tools.py.
import type { ChatKitOptions } from "@openai/chatkit";
import type {
  Animation,
  ClientTool,
  ClientToolAnswer,
  ClientToolCall,
  ClientToolHandlers,
  ClientToolName,
  ClientToolOptions,
  ClientToolParams,
  ClientToolResult,
  OnClientTool,
  Selection,
} from "./canvas";

type ChatKitHandler = NonNullable<ChatKitOptions["onClientTool"]>;

function impossible(call: never): never {
  throw new Error(`an unknown client tool: ${JSON.stringify(call)}`);
}

// One function for all tools: the name says which params there are.
const onClientTool: OnClientTool = async (call) => {
  switch (call.name) {
    case "run_search_animation": {
      const state: "start" | "stop" = call.params.state;
      return { state, speed: call.params.speed.toFixed(1) };
    }
    case "draw_canvas": {
      const colours: (string | null)[] = call.params.nodes.map((node) => node.inside[0]?.colour ?? node.colour);
      return { colours };
    }
    case "get_selection":
      return { nodes: [{ label: "circle" }] } satisfies ClientToolResult<"get_selection">;
    case "list_layers":
      return { error: "there are no layers" };
    case "ask":
      return { answer: call.params["question"] };
    default:
      return impossible(call);
  }
};
export const options: Pick<ChatKitOptions, "onClientTool"> = {
  onClientTool: (call) => onClientTool(call as ClientToolCall),
};
export const same: ChatKitHandler = onClientTool as ChatKitHandler;

// One handler for each tool: the result is checked, too.
export const handlers: ClientToolHandlers = {
  run_search_animation: ({ state }) => void document.body.classList.toggle("searching", state === "start"),
  draw_canvas: async (canvas) => `nobody reads this: ${canvas.nodes.length}, ${canvas.theme}`,
  get_selection: async () => ({ nodes: [{ label: "circle", inside: [{ label: "dot", colour: null }] }], at: [1, 2] }),
  list_layers: (_, { signal }) => (signal.aborted ? [] : ["front", "back"]),
  ask: ({ question }) => ({ question }),
};
export const failing: Pick<ClientToolHandlers, "get_selection" | "list_layers"> = {
  get_selection: () => ({ error: "nothing is selected" }),
  list_layers: () => Promise.reject(new Error("there are no layers")),
};

// A tool by its name, in code that is for all of them.
export function call<Name extends ClientToolName>(name: Name, params: ClientToolParams<Name>): ClientToolAnswer<Name> {
  const handler = handlers[name] as (params: ClientToolParams<Name>, options: ClientToolOptions) => ClientToolAnswer<Name>;
  return handler(params, { signal: AbortSignal.timeout(1000) });
}
call("run_search_animation", { state: "stop", speed: 2 } satisfies Animation);

// The union that all of this is made of.
export const selection: Extract<ClientTool, { result: Selection }>["name"] = "get_selection";
export const answer: ChatKitHandler = () => ({ nodes: [] }) satisfies Selection;
