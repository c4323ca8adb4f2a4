// Text from tickets goes into the page by textContent and value only, never as markup.
import { follow } from "/js/headrace.js";
import { $, client, clock, el, freshen, onPress, onSubmit, request, showConnection, timeOf, toast } from "/look.js";

// ---- the state, and how a change becomes part of it

const tickets = new Map(); // by id, oldest first
const rows = new Map();    // the list's elements by ticket id
let selected = "";         // id of the ticket that is shown
let comments = [];         // its comments: the one with id n is at n-1
let complete = false;      // they were loaded
let filter = "all";

// A change carries the ticket as it was after it. One that is older than what is known already is
// dropped, so it does not matter in which order the answer to a request and the event about it
// arrive, or whether something comes twice.
function apply(change) {
	const { ticket, comment } = change;
	const known = tickets.get(ticket.id);
	if (!known || ticket.version > known.version) {
		tickets.set(ticket.id, ticket);
		showRow(ticket, true);
		showFilters();
	}
	if (ticket.id !== selected) return;
	if (comment) comments[comment.id - 1] = comment;
	showDetail();
}

// A snapshot is the list as it is. It comes first, and again whenever the stream has a gap; the
// changes that follow are those it does not have yet.
function showList(list) {
	tickets.clear();
	rows.clear();
	$("tickets").replaceChildren();
	for (const ticket of list) {
		tickets.set(ticket.id, ticket);
		showRow(ticket, false);
	}
	showFilters();
	if (tickets.has(selected)) load();
	else select("");
}

function select(id) {
	selected = id;
	comments = [];
	complete = false;
	$("assignee").value = tickets.get(id)?.assignee ?? "";
	for (const [other, row] of rows) row.firstChild.setAttribute("aria-current", other === id);
	showDetail();
	if (id) load();
}

// load asks for the comments of the ticket that is shown, which the list is without. New ones come
// on the stream meanwhile; what is in both counts once, by its id.
let loads = 0;
async function load() {
	const mine = ++loads;
	for (let pause = 500; mine === loads; pause = Math.min(2 * pause, 8000)) {
		const response = await fetch("/tickets/" + encodeURIComponent(selected)).catch(() => undefined);
		const answer = response?.ok && await response.json().catch(() => undefined);
		if (mine !== loads) return;
		if (answer) {
			const { comments: all, ...ticket } = answer;
			for (const comment of all) comments[comment.id - 1] = comment;
			complete = true;
			apply({ ticket });
			return;
		}
		if (response?.status === 404) return; // the list will say so, too
		await new Promise((resolve) => setTimeout(resolve, pause));
	}
}

// ---- the stream, one for all that the page shows

export let desk;
let user = "";     // as whom it is connected: tabs of the same agent share a connection
let cut = null;    // when the connection was lost
let back = 0;      // when it was there again
let received = 0;

function connect() {
	const before = desk;
	const feed = follow("/desk/events?client=" + client, { user, cursor: before?.cursor });
	desk = feed;
	before?.close();
	const show = showConnection(feed);
	const on = (type, listener) => feed.addEventListener(type, (event) => {
		if (feed !== desk) return;
		listener(event.data && JSON.parse(event.data), event);
		show();
	});
	on("hello", greet);
	on("snapshot", showList);
	for (const type of ["created", "commented", "assigned", "moved"]) {
		on(type, (change, event) => {
			received++;
			logChange(type, change, event.lastEventId);
			apply(change);
		});
	}
	on("checkpoint", () => {}); // a place in the stream without a message
	// Some of what came between is gone, from a server that was restarted, for example. A snapshot
	// follows by itself.
	on("gap", () => note("gap", "Gap: some events are gone. The server sends the list anew."));
	on("statechange", () => {
		if (feed.state === "live" && cut) {
			back = Date.now();
			note("back", "Back after " + ((back - cut) / 1000).toFixed(1) + " s, asking for what came after " + (feed.cursor || "the beginning") + ".");
			cut = null;
		}
		if (feed.state === "reconnecting" && !cut) {
			cut = Date.now();
			note("lost", "Connection lost. The page reconnects by itself.");
		}
		if (feed.state === "ended") note("end", "The feed is finished.");
		$("simulate").disabled = feed.state === "ended";
	});
}

// greet learns as whom the page is connected, which each connection begins with. A sign-in or its
// end, in whatever tab, makes it another one's.
function greet(who) {
	showAgent(who);
	if (who.name === user) return;
	user = who.name;
	connect();
}

// ---- the dashboard, a stream behind a guard

export let dashboard;
const reasons = { 401: "401 Unauthorized", 403: "403 Forbidden" };
function connectDashboard(on) {
	dashboard?.close();
	dashboard = undefined;
	$("dashboard").setAttribute("aria-pressed", on);
	$("counts").hidden = true;
	$("dashboard-state").textContent = on ? "connecting" : "not connected";
	$("dashboard-text").textContent = on ? "" : "A stream behind a guard: for admins only.";
	if (!on) return;
	// Its events have no ids, so tabs cannot agree on where they are in it.
	const mine = dashboard = follow("/dashboard/events?client=" + client, { share: false });
	mine.addEventListener("welcome", (event) => {
		$("dashboard-text").textContent = "Welcome, " + JSON.parse(event.data).name + ". Counted on the server with every change:";
	});
	mine.addEventListener("counts", (event) => {
		const counts = JSON.parse(event.data);
		for (const box of $("counts").children) box.firstChild.textContent = counts[box.dataset.status];
		$("counts").hidden = false;
	});
	mine.addEventListener("statechange", () => {
		if (dashboard !== mine) return;
		$("dashboard-state").textContent = mine.state;
		if (mine.state !== "ended") return;
		$("counts").hidden = true;
		$("dashboard-state").textContent = "refused";
		$("dashboard-text").textContent = "The guard answered " + (reasons[mine.status] ?? mine.status) + ", before the stream began.";
	});
}

// ---- who this is, as the server says at the beginning of each connection

function showAgent(who) {
	$("sign-in").hidden = !!who.name;
	$("who").hidden = !who.name;
	$("who-name").textContent = who.name;
	$("who-role").textContent = who.expires ? who.role + ", until " + clock(who.expires) : "";
}

// ---- showing it

function showRow(ticket, fresh) {
	let row = rows.get(ticket.id);
	if (!row) {
		const button = el("button", { "aria-current": ticket.id === selected });
		button.append(el("span", { class: "subject" }), el("span", { class: "chip" }),
			el("span", { class: "about" }, el("span", {}), el("span", {}), el("time", {})));
		button.onclick = () => {
			select(ticket.id);
			if (matchMedia("(max-width: 760px)").matches) $("detail").scrollIntoView({ behavior: "smooth" });
		};
		row = el("li", { "data-ticket": ticket.id }, button);
		rows.set(ticket.id, row);
		$("tickets").prepend(row);
	}
	const button = row.firstChild;
	const [subject, chip, about] = button.children;
	subject.textContent = ticket.subject;
	chip.textContent = chip.dataset.kind = ticket.status;
	about.children[0].textContent = ticket.assignee || "nobody";
	about.children[1].textContent = ticket.comment_count === 1 ? "1 comment" : ticket.comment_count + " comments";
	showTime(about.children[2], ticket.updated);
	row.hidden = filter !== "all" && filter !== ticket.status;
	if (fresh) freshen(button);
}

function showFilters() {
	const counts = { all: tickets.size, open: 0, pending: 0, closed: 0 };
	for (const ticket of tickets.values()) counts[ticket.status]++;
	for (const button of $("filters").children) {
		button.lastChild.textContent = counts[button.dataset.filter];
		button.setAttribute("aria-pressed", button.dataset.filter === filter);
	}
	$("no-tickets").hidden = counts[filter] > 0;
	$("no-tickets-title").textContent = tickets.size ? "None here" : "No tickets yet";
	$("no-tickets-text").textContent = tickets.size ? "No ticket is " + filter + "." : "Create the first one, here or in another tab.";
}

function showDetail() {
	const ticket = tickets.get(selected);
	for (const id of ["title", "comments-box", "say"]) $(id).hidden = !ticket;
	$("no-detail").hidden = !!ticket;
	if (!ticket) return;
	const isClosed = ticket.status === "closed";
	$("ticket-subject").textContent = ticket.subject;
	$("ticket-id").textContent = "#" + ticket.id;
	showTime($("ticket-created"), ticket.created);
	$("ticket-version").textContent = "version " + ticket.version;
	for (const button of $("status").children) button.setAttribute("aria-pressed", button.dataset.status === ticket.status);
	if (document.activeElement !== $("assignee")) $("assignee").value = ticket.assignee;
	for (const field of [$("assignee"), $("assign").lastElementChild, $("text"), $("say").querySelector("button")]) field.disabled = isClosed;
	$("text").placeholder = isClosed ? "Closed. Open it again to comment." : "Say something";
	$("curl").textContent = "curl -N " + location.origin + "/tickets/" + ticket.id + "/events";
	$("curl").title = $("curl").textContent;

	const box = $("comments-box"), atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
	const there = comments.filter(Boolean);
	const shown = $("comments").children;
	for (const [i, comment] of there.entries()) {
		if (shown[i]?.dataset.comment === String(comment.id)) continue;
		const item = el("li", { "data-comment": comment.id }, comment.text, timeOf(comment.created));
		if (shown[i]) shown[i].replaceWith(item);
		else $("comments").append(item);
	}
	while (shown.length > there.length) shown[there.length].remove();
	$("no-comments").hidden = there.length > 0;
	$("no-comments-text").textContent = complete ? "No comments yet." : "Loading";
	if (atEnd) box.scrollTop = box.scrollHeight;
}

const mostEntries = 300;
function entry(item) {
	$("no-log").hidden = true;
	$("log").prepend(item);
	if ($("log").children.length > mostEntries) $("log").lastChild.remove();
}

function logChange(kind, { ticket, comment }, id) {
	const what = {
		created: () => "new ticket",
		commented: () => comment.text,
		assigned: () => ticket.assignee ? "to " + ticket.assignee : "to nobody",
		moved: () => "now " + ticket.status,
	}[kind]();
	const at = new Date(ticket.updated);
	const missed = at.getTime() < back;
	entry(el("li", { "data-id": id, "data-kind": kind, class: missed ? "missed" : "" },
		el("span", { class: "chip", "data-kind": kind }, kind),
		el("span", { class: "what", title: what }, what),
		timeOf(at),
		el("span", { class: "late" }, missed ? "caught up" : ""),
		el("span", { class: "about" }, el("span", { title: ticket.subject }, ticket.subject), el("b", { class: "id", title: id }, id))));
	$("received").textContent = received + (received === 1 ? " event" : " events");
}

function note(kind, text) {
	entry(el("li", { class: "note", "data-note": kind }, el("span", {}, text), timeOf(Date.now())));
}

function showTime(time, when) {
	time.dateTime = when;
	time.textContent = clock(when);
}

// ---- what the user does

// change does not wait for the event: the answer has the ticket as it is now, and the event, when
// it comes, is no news.
async function change(method, path, body) {
	const { comments: all, ...ticket } = await request(method, path, body);
	apply({ ticket, comment: path.endsWith("/comments") ? all.at(-1) : undefined });
	return ticket;
}

function changeSelected(method, tail, body) {
	return change(method, "/tickets/" + encodeURIComponent(selected) + tail, body);
}

onSubmit($("create"), async () => {
	const ticket = await change("POST", "/tickets", { subject: $("subject").value });
	$("subject").value = "";
	select(ticket.id);
});
onSubmit($("assign"), () => changeSelected("PATCH", "", { assignee: $("assignee").value }));
onSubmit($("say"), async () => {
	await changeSelected("POST", "/comments", { text: $("text").value });
	$("text").value = "";
});
$("text").addEventListener("keydown", (event) => {
	if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("say").requestSubmit();
});
for (const button of $("status").children) {
	onPress(button, () => changeSelected("PATCH", "", { status: button.dataset.status }));
}
for (const button of $("filters").children) {
	button.onclick = () => {
		filter = button.dataset.filter;
		for (const ticket of tickets.values()) showRow(ticket, false);
		showFilters();
	};
}
for (const button of $("roles").children) {
	button.onclick = () => {
		for (const other of $("roles").children) other.setAttribute("aria-pressed", other === button);
	};
}
// The streams that are open are a visitor's, so new ones take their place, in all tabs.
const signedIn = new BroadcastChannel("tickets");
signedIn.onmessage = (event) => {
	user = event.data;
	connect();
};
onSubmit($("sign-in"), async () => {
	const role = $("roles").querySelector("[aria-pressed=true]").dataset.role;
	user = (await request("POST", "/sign-in", { name: $("name").value, role })).name;
	connect();
	if (dashboard) connectDashboard(true);
	signedIn.postMessage(user);
});
// The server ends the streams, of this page as of any other, and the browser comes back as a
// visitor.
onPress($("sign-out"), () => request("POST", "/sign-out-everywhere"));
$("dashboard").onclick = () => connectDashboard(!dashboard);

// A colleague: ordinary requests, as from anywhere else.
const subjects = ["Printer on fire", "Cannot log in", "Invoice is wrong", "Page loads slowly", "Coffee machine is out of beans", "Export ends half way", "Password does not arrive", "Map shows the wrong town"];
const remarks = ["Having a look.", "Can you send a screenshot?", "Same here since this morning.", "Fixed in the next release.", "Please try again now.", "It was the cable."];
const people = ["Ada", "Grace", "Linus", "Margaret", "Dennis"];
const any = (list) => list[Math.floor(Math.random() * list.length)];
async function colleague() {
	const active = [...tickets.values()].filter((ticket) => ticket.status !== "closed").slice(-6);
	if (active.length < 3 || Math.random() < .15) return request("POST", "/tickets", { subject: any(subjects) });
	const path = "/tickets/" + encodeURIComponent(any(active).id);
	const dice = Math.random();
	if (dice < .55) return request("POST", path + "/comments", { text: any(remarks) });
	if (dice < .75) return request("PATCH", path, { assignee: any(people) });
	return request("PATCH", path, { status: any(["open", "pending", "pending", "closed"]) });
}
let simulating;
$("simulate").onclick = () => {
	clearInterval(simulating);
	simulating = simulating ? undefined : setInterval(() => colleague().catch((error) => toast(error.message)), 1100);
	$("simulate").setAttribute("aria-pressed", !!simulating);
};

connect();
