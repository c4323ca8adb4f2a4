import { types } from "./report.js";

// Follows a feed with an EventSource, the browser's or another one. With close it does as a page should: an event of type close is the end.
export function follow(EventSource, url, report, close) {
  const events = new EventSource(url);
  for (const type of types) {
    events.addEventListener(type, (e) => report("event", { type: e.type, data: e.data, id: e.lastEventId }));
  }
  events.addEventListener("close", () => {
    if (!close) return;
    events.close();
    report("end", { state: "closed" });
  });
  events.onerror = () => {
    if (events.readyState === EventSource.CLOSED) report("end", { state: "closed" });
  };
}
