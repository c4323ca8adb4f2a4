// What a page or a program that uses an EventSource, or something of its kind, listens for.
export const types = ["message", "moved", "message;base64", "moved;base64", "checkpoint", "gap", "close", "heartbeat", "stream-error"];

export function listen(events, say, closed = 2) {
  for (const type of types) {
    events.addEventListener(type, (e) => say("event", { type: e.type, data: e.data, id: e.lastEventId }));
  }
  events.addEventListener("error", () => {
    if (events.readyState === closed) say("end");
  });
}
