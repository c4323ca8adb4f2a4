// What the pages of the examples have in common, besides the module that follows feeds.

export const $ = (id) => document.getElementById(id);

function make(element, attributes, children) {
	for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
	element.append(...children); // strings become text nodes
	return element;
}

// el makes an element. What people write goes into a page as its text, never as markup.
export const el = (tag, attributes, ...children) => make(document.createElement(tag), attributes, children);
export const svg = (tag, attributes, ...children) => make(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

const clockFormat = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const dayFormat = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });

// clock is the one way to say when something was: local time with seconds, and the day where it is
// another one.
export function clock(when) {
	const at = new Date(when), time = clockFormat.format(at);
	return at.toDateString() === new Date().toDateString() ? time : dayFormat.format(at) + ", " + time;
}

// timeOf is the element for a time.
export const timeOf = (when) => el("time", { datetime: new Date(when).toISOString() }, clock(when));

// freshen lets an element light up.
export function freshen(element) {
	element.classList.remove("fresh");
	void element.offsetWidth; // so that the animation begins anew
	element.classList.add("fresh");
}

let toastTimer;
export function toast(text) {
	$("toast").textContent = text;
	clearTimeout(toastTimer);
	toastTimer = setTimeout(() => { $("toast").textContent = ""; }, 6000);
}

// id returns a name at random.
export const id = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");

// client is the name by which the server knows the connections of this browser, to drop them on
// request. All tabs have the same, because they share a connection.
export const client = (() => {
	try {
		return (localStorage.client ??= id());
	} catch {
		return id(); // storage is forbidden here
	}
})();

// request sends a request that changes something, and returns the JSON of the answer. Where the key
// says that it is the same request, it is sent again when no answer comes.
export async function request(method, path, body, key) {
	for (let attempt = 1; ; attempt++) {
		let problem = "The server is away.";
		try {
			const headers = { ...(body && { "Content-Type": "application/json" }), ...(key && { "Idempotency-Key": key }) };
			const response = await fetch(path, { method, body: body && JSON.stringify(body), headers });
			const answer = await response.json().catch(() => ({}));
			if (response.ok) return answer;
			problem = answer.error || "The server answered " + response.status + ".";
			if (response.status !== 503) attempt = Infinity;
		} catch {
			// It could not be reached, or its answer not read.
		}
		if (!key || attempt >= 3) throw new Error(problem);
		toast("No answer yet. Trying again.");
		await new Promise((resolve) => setTimeout(resolve, 1000));
	}
}

// wait says that a button waits for work, and keeps it from being pressed again.
async function wait(button, work) {
	if (button.ariaBusy === "true") return;
	button.ariaBusy = "true";
	try {
		await work();
	} finally {
		button.ariaBusy = "false";
	}
}

// onPress does work when a button is pressed, and says what went wrong.
export function onPress(button, work) {
	button.addEventListener("click", () => wait(button, work).catch((error) => toast(error.message)));
}

// onSubmit does work when a form is sent, and says at the form what is wrong.
export function onSubmit(form, work) {
	const problem = el("p", { class: "problem", role: "alert" });
	form.append(problem);
	const fields = () => form.querySelectorAll("input, textarea");
	const say = (text) => {
		problem.textContent = text;
		const field = fields()[0];
		if (text) field?.setAttribute("aria-invalid", "true");
		else field?.removeAttribute("aria-invalid");
	};
	form.addEventListener("input", () => say(""));
	form.addEventListener("submit", (event) => {
		event.preventDefault();
		say("");
		wait(event.submitter ?? form.querySelector("button:not([type=button])"), work).catch((error) => say(error.message));
	});
}

// showConnection shows how a feed is connected and the last event ID, and lets the connection be
// dropped.
export function showConnection(feed) {
	const show = () => {
		if (current !== feed) return;
		const { state, cursor } = feed;
		if ($("state").dataset.state !== state) $("state").textContent = $("state").dataset.state = state;
		$("last-id").textContent = cursor || "none yet";
		$("last-id").title = cursor;
		$("drop").disabled = state !== "live";
	};
	current = feed;
	feed.addEventListener("statechange", show);
	show();
	return show;
}
let current;

$("drop").onclick = () => request("POST", "/debug/drop?client=" + client).catch((error) => toast(error.message));
