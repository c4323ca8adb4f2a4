// Package middleware tests routes of ginsse behind middleware that people use and that other
// modules bring. It has no code of its own.
package middleware
