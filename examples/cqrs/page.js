// Names of guests go into the page by textContent and value only, never as markup.
import { follow } from "/js/headrace.js";
import { $, client, el, freshen, id as newID, onPress, onSubmit, request, showConnection, timeOf, toast } from "/look.js";

// ---- the state, and how an event becomes part of it

const rooms = new Map(); // by number
const cards = new Map(); // their elements
const mine = new Map();  // commands of this page that have no event yet, with what ends their waiting
let desk = "";           // which life of the desk the rooms are of
let loaded = false;
let waiting = [];        // events that came before

function apply(kind, event) {
	if (!loaded) {
		waiting.push([kind, event]);
		return;
	}
	mine.get(event.command)?.(kind === "CommandRefused" ? event.reason : "");
	mine.delete(event.command);
	// A desk that opened again knows nothing of what was before. Events of another one concern
	// other rooms.
	if (kind === "DeskOpened" && event.desk !== desk) load();
	if (event.desk !== desk || !event.room) return;
	// A room carries the number of its changes, so it does no harm to see one twice or to have seen
	// its outcome before.
	if (event.room.version <= rooms.get(event.room.number).version) return;
	rooms.set(event.room.number, event.room);
	show(event.room, true);
}

// The stream was opened before, so whatever this answer does not have yet comes as an event:
// nothing falls in between.
let loads = 0;
async function load() {
	const turn = ++loads;
	loaded = false;
	for (let pause = 500; ; pause = Math.min(2 * pause, 8000)) {
		try {
			const response = await fetch("/rooms");
			if (!response.ok) throw new Error("status " + response.status);
			const view = await response.json();
			if (turn !== loads) return; // a later load makes this one obsolete
			desk = view.desk;
			for (const room of view.rooms) {
				rooms.set(room.number, room);
				show(room, false);
			}
			break;
		} catch {
			await new Promise((resolve) => setTimeout(resolve, pause));
			if (turn !== loads) return;
		}
	}
	loaded = true;
	$("no-rooms").hidden = true;
	$("simulate").disabled = false;
	// Their events may be among those that are gone.
	for (const done of mine.values()) done("");
	mine.clear();
	const early = waiting;
	waiting = [];
	for (const [kind, event] of early) apply(kind, event);
}

// ---- the stream

export const feed = follow("/events?client=" + client);
const shown = showConnection(feed);

for (const kind of ["DeskOpened", "RoomBooked", "BookingCancelled", "GuestCheckedIn", "GuestCheckedOut", "RoomCleaned", "CommandRefused"]) {
	feed.addEventListener(kind, (event) => {
		const happened = JSON.parse(event.data);
		log(kind, happened);
		apply(kind, happened);
		shown();
	});
}
// The first one says where this page begins: from here on nothing is missed, so now is the time to
// load.
feed.addEventListener("checkpoint", () => {
	shown();
	if (!loaded) load();
});
feed.addEventListener("gap", () => {
	$("log").prepend(el("li", { class: "note" }, "Some events are gone. The rooms were loaded anew."));
	load();
});

// ---- showing it

function show(room, fresh) {
	let card = cards.get(room.number);
	if (!card) {
		card = el("article", { class: "room card", "data-room": room.number },
			el("div", { class: "top" }, el("h2", {}, String(room.number)), el("span", { class: "chip" })), el("p", { class: "guest" }), el("form", {}));
		cards.set(room.number, card);
		$("rooms").append(card);
		const number = room.number, form = card.lastChild;
		onSubmit(form, () => {
			const primary = commands[rooms.get(number).state];
			return send(primary, primary === "BookRoom" ? { room: number, guest: form.querySelector("input").value } : { room: number });
		});
	}
	const [top, guest, form] = card.children;
	const same = card.dataset.state === room.state;
	card.dataset.state = top.lastChild.textContent = room.state;
	guest.textContent = guest.title = room.guest;
	if (!same) {
		const focused = form.contains(document.activeElement);
		form.lastChild.textContent = ""; // what was wrong before
		form.replaceChildren(...controls(room), form.lastChild);
		if (focused) form.querySelector("input, button").focus();
	}
	if (fresh) freshen(card);
}

const commands = { free: "BookRoom", booked: "CheckIn", occupied: "CheckOut", uncleaned: "CleanRoom" };

// controls are what can be done to a room. The desk decides, not the page: another page may be
// faster.
function controls({ number, state }) {
	const main = (text) => el("button", { class: "primary" }, text);
	switch (state) {
	case "free": return [el("input", { placeholder: "Guest", maxlength: 60, required: "", autocomplete: "off", "aria-label": "Guest for room " + number }), main("Book")];
	case "booked": {
		const cancel = el("button", { type: "button" }, "Cancel");
		onPress(cancel, () => send("CancelBooking", { room: number }));
		return [main("Check in"), cancel];
	}
	case "occupied": return [main("Check out")];
	default: return [main("Clean")];
	}
}

const mostEntries = 200;
function log(kind, event) {
	$("no-log").hidden = true;
	const what = kind === "DeskOpened" ? "all rooms are free" : event.reason ?? "room " + event.room.number + (event.room.guest ? ", " + event.room.guest : "");
	$("log").prepend(el("li", { "data-kind": kind, "data-id": event.id },
		el("span", { class: "name" }, kind), timeOf(event.at), el("span", { class: "what" }, what), el("span", { class: "tries" })));
	if ($("log").children.length > mostEntries) $("log").lastChild.remove();
}

// showTries says which events were published more than once. It goes on while answers are to be
// lost, and a little longer, for the last repetition.
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

// ---- what the user does

// send sends a command, and waits for the event about it, which may be that it is refused. Sent
// again under the same ID, because an answer did not arrive, it is the same command.
export async function send(command, body) {
	const id = newID();
	const decided = new Promise((resolve) => mine.set(id, resolve));
	try {
		await request("POST", "/commands/" + command, body, id);
	} catch (error) {
		mine.delete(id);
		throw error;
	}
	const refusal = await decided;
	if (refusal) throw new Error(refusal);
}

onPress($("lose"), async () => {
	await request("POST", "/debug/lose");
	showTries(10).catch(() => {});
});

// A colleague: commands, as from anywhere else.
let simulating;
const any = (list) => list[Math.floor(Math.random() * list.length)];
function colleague() {
	const { number, state } = any([...rooms.values()]);
	return send(commands[state], state === "free" ? { room: number, guest: any(["Emmy Noether", "Alan Turing", "Hedy Lamarr", "Edsger Dijkstra"]) } : { room: number });
}
$("simulate").onclick = () => {
	clearInterval(simulating);
	simulating = simulating ? undefined : setInterval(() => colleague().catch((error) => toast(error.message)), 1100);
	$("simulate").setAttribute("aria-pressed", !!simulating);
};
