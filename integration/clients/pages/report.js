// Tells the test what a client got, in order and one request at a time: two under way could overtake each other.
export function reporter(url) {
  const waiting = [];
  let busy = false;
  async function send() {
    if (busy) return;
    busy = true;
    while (waiting.length > 0) {
      await fetch(url, { method: "POST", body: JSON.stringify(waiting.splice(0)) }).catch(() => {});
    }
    busy = false;
  }
  return (kind, fields = {}) => {
    waiting.push({ kind, ...fields });
    send();
  };
}

// The types of messages that the test publishes, and the control events of a feed.
export const types = ["message", "moved", "checkpoint", "gap", "close"];
