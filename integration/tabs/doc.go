// Package tabs tests js/headrace.js in browsers: many tabs on one connection, whatever becomes of
// the tab that holds it, of the connection and of the server. It has no code of its own.
package tabs
