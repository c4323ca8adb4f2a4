"use strict";

// What customers are called goes into the page by textContent only, never as markup.
const $ = (id) => document.getElementById(id);
function el(tag, attributes, ...children) {
	const e = document.createElement(tag);
	for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
	e.append(...children); // strings become text nodes
	return e;
}
const euros = new Intl.NumberFormat("en", { style: "currency", currency: "EUR" });
const money = (cents) => euros.format(cents / 100); // sums are made in cents; this is for the eye only

// ---- a feed: the state by fetch, and from its place on the changes by EventSource

const changes = ["placed", "paid", "packed", "shipped", "delivered", "cancelled", "refunded"];

// follow calls snapshot with the state, change with what changes it, and status with how the connection is. Nothing falls between state and changes, because the answer to fetch says
// where the stream goes on. A connection that drops is the browser's business, and one that missed too much the server's: it sends a snapshot, also in mid-stream.
function follow(url, { snapshot, change, status }) {
	let source, timer, stopped = false, final = false;
	const apply = (f, state) => {
		final = state.final === true;
		f(state);
	};
	const again = () => {
		if (stopped) return;
		status("reconnecting");
		timer = setTimeout(start, 2000);
	};
	async function start() {
		let state, place;
		try {
			const response = await fetch(url, { headers: { Accept: "application/json" } });
			if (stopped) return;
			if (response.status === 404) return status("gone");
			if (!response.ok) return again();
			state = await response.json();
			place = response.headers.get("Last-Event-ID");
		} catch {
			return again();
		}
		if (stopped) return;
		apply(snapshot, state);
		source = new EventSource(url + "?lastEventId=" + encodeURIComponent(place));
		source.onopen = () => status("live");
		source.addEventListener("snapshot", (event) => apply(snapshot, JSON.parse(event.data)));
		for (const type of changes) source.addEventListener(type, (event) => apply(change, JSON.parse(event.data)));
		source.addEventListener("close", () => {
			source.close();
			status("finished");
		});
		source.onerror = () => {
			if (source.readyState !== EventSource.CLOSED) status("reconnecting"); // and the browser does it
			else if (final) status("finished"); // there was nothing to come, which the server says with 204
			else again();
		};
	}
	start();
	return () => {
		stopped = true;
		clearTimeout(timer);
		source?.close();
	};
}

// ---- all orders, and the till

const orders = new Map(); // by id
const rows = new Map();   // their elements

follow("/orders", {
	snapshot(shop) {
		const known = new Set(shop.orders.map((order) => order.id));
		for (const id of orders.keys()) if (!known.has(id)) forget(id);
		for (const order of shop.orders) take(order);
		total();
	},
	change(order) {
		take(order, true);
		total();
	},
	status: (state) => show("state", state),
});

// take takes a version of an order, unless this one or a later one is known: it does no harm to get one twice.
function take(order, fresh) {
	if (order.version <= (orders.get(order.id)?.version ?? 0)) return;
	orders.set(order.id, order);
	let row = rows.get(order.id);
	if (!row) {
		row = el("li", { "data-order": order.id }, el("button", { class: "customer" }, order.customer), el("span", { class: "about" }),
			el("span", { class: "sum number" }, money(order.total_cents)), el("span", { class: "chip" }), el("div", { class: "row" }));
		row.firstChild.onclick = () => select(order.id);
		if (order.id === selected) row.dataset.selected = "";
		rows.set(order.id, row);
		$("orders").prepend(row);
	}
	const [, about, , chip, buttons] = row.children;
	row.dataset.version = order.version;
	about.replaceChildren(el("code", {}, order.id), " · " + order.items.map((item) => item.quantity + " × " + item.product).join(", "));
	about.title = about.textContent;
	chip.textContent = chip.dataset.of = order.state;
	buttons.replaceChildren(...controls(order));
	if (fresh) {
		row.classList.remove("fresh");
		void row.offsetWidth; // so that the animation begins anew
		row.classList.add("fresh");
	}
}

function forget(id) {
	rows.get(id).remove();
	rows.delete(id);
	orders.delete(id);
}

function total() {
	let cents = 0;
	for (const order of orders.values()) cents += order.paid_cents - order.refunded_cents;
	$("till").dataset.cents = cents;
	$("till").textContent = money(cents);
	$("no-orders").hidden = orders.size > 0;
}

// controls are what can be done to an order. The server decides, not the page: another page may be faster.
function controls(order) {
	const next = { placed: ["pay", "cancel"], paid: ["pack", "cancel"], packed: ["ship", "cancel"], shipped: ["deliver", "refund"], cancelled: ["refund"] }[order.state];
	if (order.final || !next) return [el("span", { class: "closed" }, "nothing left to do")];
	return next.map((action) => {
		const button = el("button", { class: action === "cancel" || action === "refund" ? "danger" : "primary", "data-action": action }, action[0].toUpperCase() + action.slice(1));
		button.onclick = () => {
			for (const other of button.parentNode.children) other.disabled = true;
			select(order.id);
			post("/orders/" + order.id + "/" + action).finally(() => {
				// If it succeeded, the change brings other buttons.
				for (const other of button.parentNode?.children ?? []) other.disabled = false;
			});
		};
		return button;
	});
}

// ---- the selected order, on a stream of its own that ends when the order does

let selected = "";
let shown = 0; // version
let leave = () => {};

function select(id) {
	if (id === selected) return;
	leave();
	rows.get(selected)?.removeAttribute("data-selected");
	rows.get(id)?.setAttribute("data-selected", "");
	selected = id;
	shown = 0;
	$("order-id").textContent = id;
	show("order-state", "connecting");
	leave = follow("/orders/" + id, {
		snapshot: detail,
		change: detail,
		status: (state) => state === "gone" ? deselect() : show("order-state", state),
	});
}

function deselect() {
	leave();
	rows.get(selected)?.removeAttribute("data-selected");
	selected = "";
	$("detail").hidden = true;
	$("no-detail").hidden = false;
}

function detail(order) {
	if (order.version <= shown) return;
	shown = order.version;
	$("no-detail").hidden = true;
	$("detail").hidden = false;
	$("customer").textContent = order.customer;
	$("version").textContent = order.version;
	const line = (name, cents, kind) => el("li", { class: kind }, el("span", {}, name), el("span", {}, money(cents)));
	$("items").replaceChildren(...order.items.map((item) => line(item.quantity + " × " + item.product, item.quantity * item.cents, "")), line("Total", order.total_cents, "total"));
	if (order.paid_cents) $("items").append(line("Paid", order.paid_cents, ""));
	if (order.refunded_cents) $("items").append(line("Refunded", -order.refunded_cents, "minus"));
	const steps = order.history.map((step) => el("li", { "data-of": step.state, "data-version": step.version },
		el("b", {}, step.state), el("span", { class: "version" }, "v" + step.version), el("time", { datetime: step.at }, new Date(step.at).toLocaleTimeString())));
	const way = ["placed", "paid", "packed", "shipped", "delivered"];
	const ahead = way.includes(order.state) ? way.slice(way.indexOf(order.state) + 1) : [];
	$("timeline").replaceChildren(...steps, ...ahead.map((state) => el("li", { "data-ahead": "" }, el("b", {}, state))));
}

// ---- what the user does

function show(id, state) {
	$(id).dataset.state = $(id).textContent = state;
}

let toastTimer;
function toast(text) {
	$("toast").textContent = text;
	$("toast").hidden = false;
	clearTimeout(toastTimer);
	toastTimer = setTimeout(() => { $("toast").hidden = true; }, 5000);
}

// post sends a change. Sent again under the same key, because an answer did not arrive, it is the same change. What comes of it comes by the stream.
async function post(url, body) {
	const key = Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
	for (let attempt = 1; ; attempt++) {
		try {
			const response = await fetch(url, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json", "Idempotency-Key": key } });
			if (response.ok) return await response.json();
			if (response.status !== 503 || attempt === 3) return toast((await response.json().catch(() => ({}))).error || "The server answered " + response.status + ".");
		} catch {
			if (attempt === 3) return toast("The server is away.");
		}
		await new Promise((resolve) => setTimeout(resolve, 1000));
	}
}

$("place").onsubmit = async (event) => {
	event.preventDefault();
	const { customer, product, quantity } = $("place").elements;
	const order = await post("/orders", { customer: customer.value, items: [{ product: product.value, quantity: quantity.valueAsNumber }] });
	if (!order) return;
	customer.value = "";
	select(order.id);
};

(async () => {
	const products = await (await fetch("/products")).json();
	$("place").elements.product.append(...products.map((product) => el("option", { value: product.name }, product.name + " · " + money(product.cents))));
})().catch(() => toast("The products could not be loaded."));
