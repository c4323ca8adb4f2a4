// Follows a feed with a client from npm: node drivers/node.js NAME URL. What it gets goes to the
// standard output, a line of JSON each.
import { writeSync } from "node:fs";
import { listen } from "./eventsource.js";

const [, , name, url] = process.argv;

function say(kind, fields = {}) {
  let rest = Buffer.from(JSON.stringify({ kind, ...fields }) + "\n");
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(1, rest));
    } catch (err) {
      if (err.code !== "EAGAIN") throw err;
    }
  }
}

// eventsource-client as an EventSource would tell.
const event = ({ event, data, id }) => say("event", { type: event ?? "message", data, id: id ?? "" });

const clients = {
  eventsource1: async () => listen(new (await import("eventsource1")).default(url), say),
  eventsource2: async () => listen(new (await import("eventsource2")).default(url), say),
  eventsource3: async () => listen(new (await import("eventsource3")).EventSource(url), say),
  eventsource4: async () => listen(new (await import("eventsource4")).EventSource(url), say),
  undici6: async () => listen(new (await import("undici6")).EventSource(url), say),
  undici7: async () => listen(new (await import("undici7")).EventSource(url), say),
  "eventsource-client": async () => {
    const { createEventSource } = await import("eventsource-client");
    createEventSource({ url, onMessage: event });
  },
  "tanstack-query": async () => {
    const { createEventSource } = await import("eventsource-client");
    const { QueryClient, experimental_streamedQuery: streamedQuery } = await import("@tanstack/query-core");
    const client = new QueryClient();
    await client.fetchQuery({
      queryKey: ["feed"],
      queryFn: streamedQuery({
        streamFn: () => createEventSource(url),
        initialValue: null,
        reducer: (_, e) => (event(e), e),
      }),
    });
    say("end");
  },
  "ai-sdk": async () => {
    const { DefaultChatTransport } = await import("ai");
    const transport = new DefaultChatTransport({ api: url });
    const chunks = await transport.sendMessages({ chatId: "0", messages: [], trigger: "submit-message" });
    for await (const chunk of chunks) {
      say("event", { type: "message", data: chunk.delta, noType: true, noID: true });
    }
    say("end");
  },
};

await clients[name]();
setInterval(() => {}, 1 << 30);
