// What customers are called goes into the page by textContent only, never as markup.
import { follow } from "/js/headrace.js";
import { $, client, el, freshen, id as newKey, onPress, onSubmit, request, showConnection, timeOf, toast } from "/look.js";

const euros = new Intl.NumberFormat("en", { style: "currency", currency: "EUR" });
const money = (cents) => euros.format(cents / 100); // sums are made in cents; this is for the eye only

// ---- the stream: all orders, and then each order that changes

const orders = new Map(); // by id, oldest first
const rows = new Map();   // their elements

export const feed = follow("/orders/events?client=" + client);
const shown = showConnection(feed);

// A snapshot is the state as it is. It comes first, and again whenever the stream has missed
// something: the server sees to that, and the page needs no code for it.
feed.addEventListener("snapshot", (event) => {
	const shop = JSON.parse(event.data);
	const known = new Set(shop.orders.map((order) => order.id));
	for (const id of orders.keys()) if (!known.has(id)) forget(id);
	for (const order of shop.orders) take(order, false);
	$("no-orders").textContent = "No orders yet. Place one.";
	total();
	shown();
});
for (const state of ["placed", "paid", "packed", "shipped", "delivered", "cancelled", "refunded"]) {
	feed.addEventListener(state, (event) => {
		take(JSON.parse(event.data), true);
		total();
		shown();
	});
}

// take takes a version of an order, unless this one or a later one is known: it does no harm to get
// one twice.
function take(order, fresh) {
	if (order.version <= (orders.get(order.id)?.version ?? 0)) return;
	orders.set(order.id, order);
	let row = rows.get(order.id);
	if (!row) {
		row = el("li", { "data-order": order.id }, el("button", { class: "customer", "aria-expanded": "false" }, order.customer), el("span", { class: "about" }),
			el("span", { class: "sum number" }, money(order.total_cents)), el("span", { class: "chip" }), el("div", { class: "row" }));
		row.firstChild.onclick = () => select(order.id);
		rows.set(order.id, row);
		$("orders").prepend(row);
	}
	const [, about, , chip, buttons] = row.children;
	row.dataset.version = order.version;
	about.replaceChildren(el("code", {}, order.id), " · " + order.items.map((item) => item.quantity + " × " + item.product).join(", "));
	about.title = about.textContent;
	chip.textContent = chip.dataset.of = order.state;
	const focused = buttons.contains(document.activeElement);
	buttons.replaceChildren(...controls(order));
	if (focused) (buttons.querySelector("button") ?? row.firstChild).focus();
	if (fresh) freshen(row);
	if (order.id === selected) detail(order);
}

function forget(id) {
	if (id === selected) select("");
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

// ---- the chosen order, which the stream of all orders has whole

let selected = "";

function select(id) {
	rows.get(selected)?.removeAttribute("data-selected");
	rows.get(selected)?.firstChild.setAttribute("aria-expanded", "false");
	selected = id;
	rows.get(id)?.setAttribute("data-selected", "");
	rows.get(id)?.firstChild.setAttribute("aria-expanded", "true");
	$("detail").hidden = !id;
	$("no-detail").hidden = !!id;
	settle();
	if (id) detail(orders.get(id));
}

// Where there is one column, the order is shown within its row, not below all the others.
const narrow = matchMedia("(max-width: 900px)");
function settle() {
	(narrow.matches && rows.get(selected) || $("beside")).append($("chosen"));
}
narrow.onchange = settle;

function detail(order) {
	$("order-id").textContent = order.id;
	$("customer").textContent = order.customer;
	$("version").textContent = order.version;
	$("order-state").textContent = $("order-state").dataset.of = order.state;
	const line = (name, cents, kind) => el("li", { class: kind }, el("span", {}, name), el("span", {}, money(cents)));
	$("items").replaceChildren(...order.items.map((item) => line(item.quantity + " × " + item.product, item.quantity * item.cents, "")), line("Total", order.total_cents, "total"));
	if (order.paid_cents) $("items").append(line("Paid", order.paid_cents, ""));
	if (order.refunded_cents) $("items").append(line("Refunded", -order.refunded_cents, "minus"));
	const steps = order.history.map((step) => el("li", { "data-of": step.state, "data-version": step.version },
		el("b", {}, step.state), el("span", { class: "version" }, "v" + step.version), timeOf(step.at)));
	const way = ["placed", "paid", "packed", "shipped", "delivered"];
	const ahead = way.includes(order.state) ? way.slice(way.indexOf(order.state) + 1) : [];
	$("timeline").replaceChildren(...steps, ...ahead.map((state) => el("li", { "data-ahead": "" }, el("b", {}, state))));
}

// ---- what the user does

// actions are what can be done to an order. The server decides, not the page: another page may be
// faster.
const actions = ({ final, state }) => final ? [] :
	{ placed: ["pay", "cancel"], paid: ["pack", "cancel"], packed: ["ship", "cancel"], shipped: ["deliver", "refund"], cancelled: ["refund"] }[state] ?? [];

function controls(order) {
	const possible = actions(order);
	if (!possible.length) return [el("span", { class: "done" }, "nothing left to do")];
	return possible.map((action) => {
		const button = el("button", { class: action === "cancel" || action === "refund" ? "danger" : "primary", "data-action": action }, action[0].toUpperCase() + action.slice(1));
		onPress(button, async () => {
			select(order.id);
			take(await change(order.id, action), true);
			total();
		});
		return button;
	});
}

// change sends a change. Sent again under the same key, because an answer did not arrive, it is the
// same change. The event about it, when it comes, is no news.
export const change = (id, action) => request("POST", "/orders/" + id + "/" + action, undefined, newKey());

onSubmit($("place"), async () => {
	const { customer, product, quantity } = $("place").elements;
	const order = await request("POST", "/orders", { customer: customer.value, items: [{ product: product.value, quantity: quantity.valueAsNumber }] }, newKey());
	customer.value = "";
	take(order, true);
	total();
	select(order.id);
});

// A colleague: ordinary requests, as from anywhere else.
let simulating;
const any = (list) => list[Math.floor(Math.random() * list.length)];
async function colleague() {
	const open = [...orders.values()].filter((order) => actions(order).length);
	if (open.length < 3 || Math.random() < .2) {
		const product = any([...$("place").elements.product.options]).value;
		return request("POST", "/orders", { customer: any(["Emmy Noether", "Alan Turing", "Hedy Lamarr", "Edsger Dijkstra"]), items: [{ product, quantity: 1 + Math.floor(3 * Math.random()) }] }, newKey());
	}
	const order = any(open);
	const [first, second] = actions(order);
	return change(order.id, second && Math.random() < .1 ? second : first);
}
$("simulate").onclick = () => {
	clearInterval(simulating);
	simulating = simulating ? undefined : setInterval(() => colleague().catch((error) => toast(error.message)), 1100);
	$("simulate").setAttribute("aria-pressed", !!simulating);
};

async function loadProducts() {
	const products = await (await fetch("/products")).json();
	$("place").elements.product.replaceChildren(...products.map((product) => el("option", { value: product.name }, product.name + " · " + money(product.cents))));
}
loadProducts().catch(() => toast("The products could not be loaded. Load the page again."));
