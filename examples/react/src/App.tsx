import { ChatKit, useChatKit } from "@openai/chatkit-react";
import { useEffect, useRef, useState } from "react";
// In your project: a copy of the file at `python -c "from chatkit_clienttools import frontend; print(frontend.path())"`.
import { resumeOnLoad, withReceipts } from "../../../src/chatkit_clienttools/frontend/client-tools.js";
import type { Choice, ClientToolHandlers, Profile } from "./client-tools";

/** What the page asks the user; the server's tool waits until `choose` is called. */
type Question = { people: Profile[]; choose: (choice: Choice) => void };

/** Merak's page: the chat, and beside it what its client tools show. */
export function App() {
  const [isSearching, setSearching] = useState(false);
  const [question, setQuestion] = useState<Question | null>(null);
  const status = useRef<HTMLParagraphElement>(null);

  const tools: ClientToolHandlers = {
    run_search_animation: ({ state }) => setSearching(state === "start"),
    choose_agent: ({ agents }) =>
      new Promise<Choice>((resolve) => {
        const choose = (choice: Choice) => {
          status.current?.focus(); // the button goes
          setQuestion(null);
          resolve(choice);
        };
        setQuestion({ people: agents, choose });
      }),
  };

  const { control, ref } = useChatKit({
    api: { url: new URL("../merak_search/chatkit", location.href).href, domainKey: "local-dev" },
    onClientTool: withReceipts(tools), // each call is answered, and none runs twice
    onResponseStart: () => setQuestion(null), // the user has written instead of choosing
  });
  useEffect(() => (ref.current ? resumeOnLoad(ref.current) : undefined), [ref]);

  return (
    <main>
      <section aria-label="Search">
        <h1>Merak</h1>
        <p role="status" tabIndex={-1} ref={status}>
          {question ? "Choose one of them." : isSearching ? "Searching…" : "Ask Merak for people."}
        </p>
        <ul>
          {question?.people.map(({ name, knows }) => (
            <li key={name}>
              <span>
                <b>{name}</b>, {knows}
              </span>
              <button type="button" onClick={() => question.choose({ name })}>
                Choose {name}
              </button>
            </li>
          ))}
        </ul>
      </section>
      <ChatKit control={control} style={{ height: "80vh" }} />
    </main>
  );
}
