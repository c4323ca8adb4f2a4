// Package js serves headrace.js, a module for pages that follow feeds, and its types for
// TypeScript.
//
//	mux.Handle("/js/", js.Handler())
//
// A page imports it from there:
//
//	import { follow } from "/js/headrace.js";
//
// It follows a feed with an EventSource, comes back from what ends one for good, notices stalls,
// and shares one connection among all tabs of an origin. docs/browser.md says how to use it.
package js
