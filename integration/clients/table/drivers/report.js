// Tells the test what a client got, in order and one request at a time: two under way could overtake
// each other. The test's server for reports is another one than the feed's, which may be away.
const options = new URLSearchParams(location.search);
const waiting = [];
let busy = false;
async function send() {
  if (busy) return;
  busy = true;
  while (waiting.length > 0) {
    await fetch(options.get("report"), { method: "POST", mode: "no-cors", body: JSON.stringify(waiting.splice(0)) });
  }
  busy = false;
}
export function say(kind, fields = {}) {
  waiting.push({ kind, ...fields });
  send();
}
export const feed = options.get("feed");
export const name = options.get("client");
