package main

import "embed"

// page is what a browser gets: package pages serves it, with what all examples have in common.
//
//go:embed page.html page.css page.js
var page embed.FS
