import { EventSource } from "eventsource";
import { reporter } from "./report.js";
import { follow } from "./eventsource.js";

const page = new URL(process.argv[2]);
const absolute = (path) => new URL(path, page).href;
follow(EventSource, absolute(page.searchParams.get("feed")), reporter(absolute("/report")), page.searchParams.has("close"));
