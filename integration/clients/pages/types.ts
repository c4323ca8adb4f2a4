// What js/headrace.d.ts must allow and refuse. It is compiled, and never runs.
import { follow, type Feed, type FeedOptions, type FeedState } from "../../../js/headrace.js";

const options: FeedOptions = { cursor: "a-1", user: 7, credentials: true, heartbeat: 15, share: false, remember: true };
const feed: Feed = follow(new URL("https://example.com/feed"), options);
follow("/feed");
follow("/feed", { user: "ada" });

feed.addEventListener("message", (e) => {
  const data: string = e.data;
  const id: string = e.lastEventId;
  return [data, id];
});
feed.addEventListener("created", function (e) {
  this.close();
  JSON.parse(e.data);
});
feed.addEventListener("gap", () => location.reload(), { once: true });
feed.addEventListener("close", { handleEvent: (e) => console.log(e.type) });
const relabel = (e: Event) => {
  const state: FeedState = feed.state;
  if (state === "ended" && feed.status === 204) console.log(e.type, feed.cursor);
};
feed.addEventListener("statechange", relabel);
feed.removeEventListener("statechange", relabel);
const target: EventTarget = feed;
target.dispatchEvent(new Event("x"));

feed.addEventListener("statechange", (e) => {
  // @ts-expect-error: it has no data
  e.data;
});
// @ts-expect-error: there is no such state
feed.state === "open";
// @ts-expect-error: the module sets it
feed.cursor = "";
// @ts-expect-error: an option that there is not
follow("/feed", { types: ["created"] });
// @ts-expect-error: a number is no cursor
follow("/feed", { cursor: 1 });
// @ts-expect-error: the URL is missing
follow();
