"use strict";

// Names of guests go into the page by textContent and value only, never as markup.
const $ = (id) => document.getElementById(id);
function el(tag, attributes, ...children) {
	const e = document.createElement(tag);
	for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
	e.append(...children); // strings become text nodes
	return e;
}

// ---- the state, and how an event becomes part of it

const rooms = new Map(); // by number
const cards = new Map(); // their elements
const mine = new Set();  // commands of this page that have no event yet
let desk = "";           // which life of the desk the rooms are of
let loaded = false;
let waiting = [];        // events that came before

function apply(kind, event) {
	if (!loaded) {
		waiting.push([kind, event]);
		return;
	}
	if (mine.delete(event.command) && kind === "CommandRefused") toast(event.reason);
	// A desk that opened again knows nothing of what was before. Events of another one concern other rooms.
	if (kind === "DeskOpened" && event.desk !== desk) load();
	if (event.desk !== desk || !event.room) return;
	// A room carries the number of its changes, so it does no harm to see one twice or to have seen its outcome before.
	if (event.room.version <= rooms.get(event.room.number).version) return;
	rooms.set(event.room.number, event.room);
	show(event.room, true);
}

// The stream was opened before, so whatever this answer does not have yet comes as an event: nothing falls in between.
let loads = 0;
async function load() {
	const mine = ++loads;
	loaded = false;
	for (let pause = 500; ; pause = Math.min(2 * pause, 8000)) {
		try {
			const response = await fetch("/rooms");
			if (!response.ok) throw new Error("status " + response.status);
			const view = await response.json();
			if (mine !== loads) return; // a later load makes this one obsolete
			desk = view.desk;
			for (const room of view.rooms) {
				rooms.set(room.number, room);
				show(room, false);
			}
			break;
		} catch {
			await new Promise((resolve) => setTimeout(resolve, pause));
			if (mine !== loads) return;
		}
	}
	loaded = true;
	const early = waiting;
	waiting = [];
	for (const [kind, event] of early) apply(kind, event);
}

// ---- the stream

const kinds = ["DeskOpened", "RoomBooked", "BookingCancelled", "GuestCheckedIn", "GuestCheckedOut", "RoomCleaned", "CommandRefused"];
let lastID = ""; // for a connection that the browser has given up

function connect() {
	const url = new URL("/events", location);
	// A browser states the last event ID by itself when it reconnects. A new EventSource starts anew, and says it here.
	if (lastID) url.searchParams.set("last_event_id", lastID);
	const source = new EventSource(url);
	const on = (kind, f) => source.addEventListener(kind, (event) => {
		if (event.lastEventId) lastID = event.lastEventId;
		f(event);
	});
	source.onopen = () => setState("live");
	source.onerror = () => {
		setState("reconnecting");
		if (source.readyState === EventSource.CLOSED) setTimeout(connect, 3000); // after a status other than 200
	};
	for (const kind of kinds) {
		on(kind, (event) => {
			const happened = JSON.parse(event.data);
			log(kind, happened);
			apply(kind, happened);
		});
	}
	// The first one says where this page begins: from here on nothing is missed, so now is the time to load.
	on("checkpoint", () => { if (!loaded) load(); });
	on("gap", () => {
		$("log").prepend(el("li", { class: "note" }, "Some events are gone. The rooms were loaded anew."));
		load();
	});
}

function setState(state) {
	$("state").dataset.state = $("state-text").textContent = state;
}

// ---- showing it

function show(room, fresh) {
	let card = cards.get(room.number);
	if (!card) {
		card = el("article", { class: "room card", "data-room": room.number },
			el("div", { class: "top" }, el("h2", {}, String(room.number)), el("span", { class: "chip" })), el("p", { class: "guest" }), el("form", {}));
		cards.set(room.number, card);
		$("rooms").append(card);
	}
	const [top, guest, form] = card.children;
	const same = card.dataset.state === room.state;
	card.dataset.state = top.lastChild.textContent = room.state;
	guest.textContent = guest.title = room.guest;
	if (!same) form.replaceChildren(...controls(room, form));
	if (fresh) {
		card.classList.remove("fresh");
		void card.offsetWidth; // so that the animation begins anew
		card.classList.add("fresh");
	}
}

// controls are what can be done to a room. The desk decides, not the page: another page may be faster.
function controls(room, form) {
	const button = (command, text, main) => {
		const b = el("button", main ? { class: "primary" } : { type: "button" }, text);
		if (!main) b.onclick = () => send(command, { room: room.number });
		return b;
	};
	const primary = { booked: "CheckIn", occupied: "CheckOut", uncleaned: "CleanRoom" }[room.state];
	form.onsubmit = (event) => {
		event.preventDefault();
		if (primary) send(primary, { room: room.number });
		else send("BookRoom", { room: room.number, guest: form.querySelector("input").value });
	};
	switch (room.state) {
	case "free": return [el("input", { placeholder: "Guest", maxlength: 60, required: "", autocomplete: "off", "aria-label": "Guest for room " + room.number }), button("BookRoom", "Book", true)];
	case "booked": return [button("CheckIn", "Check in", true), button("CancelBooking", "Cancel", false)];
	case "occupied": return [button("CheckOut", "Check out", true)];
	default: return [button("CleanRoom", "Clean", true)];
	}
}

const mostEntries = 200;
function log(kind, event) {
	$("no-log").hidden = true;
	const what = kind === "DeskOpened" ? "all rooms are free" : event.reason ?? "room " + event.room.number + (event.room.guest ? ", " + event.room.guest : "");
	$("log").prepend(el("li", { "data-kind": kind, "data-id": event.id },
		el("span", { class: "name" }, kind), el("time", {}, new Date(event.at).toLocaleTimeString()), el("span", { class: "what" }, what), el("span", { class: "tries" })));
	if ($("log").children.length > mostEntries) $("log").lastChild.remove();
}

// showTries says which events were published more than once. It goes on while answers are to be lost, and a little longer, for the last repetition.
let watching;
async function showTries(rounds) {
	clearTimeout(watching);
	const { attempts, to_lose } = await (await fetch("/debug/attempts")).json();
	for (const item of $("log").children) {
		const n = attempts[item.dataset.id];
		if (n > 1) item.lastChild.textContent = "sent " + n + " times, here once";
	}
	$("lose").disabled = to_lose > 0;
	$("lose").textContent = to_lose > 0 ? "Losing the next " + to_lose : "Lose the next 2 answers";
	if (to_lose > 0) rounds = 10;
	if (rounds > 0) watching = setTimeout(() => showTries(rounds - 1).catch(() => {}), 300);
}

let toastTimer;
function toast(text) {
	$("toast").textContent = text;
	$("toast").hidden = false;
	clearTimeout(toastTimer);
	toastTimer = setTimeout(() => { $("toast").hidden = true; }, 5000);
}

// ---- what the user does

// send sends a command. Sent again under the same ID, because an answer did not arrive, it is the same command.
async function send(command, body) {
	const id = Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
	mine.add(id);
	for (let attempt = 1; ; attempt++) {
		try {
			const response = await fetch("/commands/" + command, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json", "Idempotency-Key": id } });
			if (response.ok) return;
			if (response.status !== 503 || attempt === 3) {
				mine.delete(id);
				toast((await response.json().catch(() => ({}))).error || "The server answered " + response.status + ".");
				return;
			}
		} catch {
			if (attempt === 3) {
				toast("The server is away.");
				return;
			}
		}
		await new Promise((resolve) => setTimeout(resolve, 1000));
	}
}

$("lose").onclick = async () => {
	await fetch("/debug/lose", { method: "POST" }).catch(() => toast("The server is away."));
	showTries(10).catch(() => {});
};

connect();
