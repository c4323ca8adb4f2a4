package main

import (
	"encoding/json"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/ginsse"
)

// role says what a person gets to see.
type role string

const (
	viewer   role = "viewer"
	operator role = "operator" // sees maintenance, too
)

// person is a user.
type person struct {
	Name string `json:"name"`
	Role role   `json:"role"`
}

// people are the users there are. An application has them in a database.
var people = []person{{"Vera", viewer}, {"Otto", operator}}

// signedIn is who sent a request. Nobody has signed in where it is not set.
var signedIn = ginsse.NewKey[person]("person")

// sessionCookie holds the name of who has signed in. It stands for a real session: anybody can
// write a name into a cookie, so an application puts a token there that cannot be guessed, made
// after a password or whatever else proves who somebody is.
const sessionCookie = "dashboard"

// sessionOf returns the name that a request comes with.
func sessionOf(r *http.Request) string {
	cookie, err := r.Cookie(sessionCookie)
	if err != nil {
		return ""
	}
	return cookie.Value
}

// personNamed finds a person.
func personNamed(name string) (person, bool) {
	for _, p := range people {
		if p.Name == name {
			return p, true
		}
	}
	return person{}, false
}

// authenticate is middleware that finds out who sent a request. Whether that person may do it is
// decided by guards and handlers.
func authenticate(c *gin.Context) {
	if p, ok := personNamed(sessionOf(c.Request)); ok {
		signedIn.Set(c, p)
	}
}

// requirePerson is a guard.
func requirePerson[P any](c *ginsse.Context[P]) error {
	if _, ok := signedIn.Get(c.Context()); !ok {
		return ginsse.ErrUnauthorized
	}
	return nil
}

// session answers with what the page needs before it can follow anything.
func session(c *gin.Context) {
	p, _ := signedIn.Get(c.Request.Context())
	c.Header("Cache-Control", "no-store")
	c.JSON(http.StatusOK, gin.H{"name": p.Name, "people": people, "sites": sites})
}

// signIn makes the browser somebody's. Streams that are open already stay what they were; see the
// tickets example for a session that ends its streams.
func signIn(c *gin.Context) {
	var body struct{ Name string }
	if err := json.NewDecoder(http.MaxBytesReader(c.Writer, c.Request.Body, 1<<10)).Decode(&body); err != nil {
		fail(c, http.StatusBadRequest, "the body must be JSON with a name")
		return
	}
	p, ok := personNamed(body.Name)
	if !ok {
		fail(c, http.StatusForbidden, "there is nobody of this name")
		return
	}
	http.SetCookie(c.Writer, &http.Cookie{ //nolint:gosec // a cookie that is Secure would not come back to an example without TLS
		Name: sessionCookie, Value: p.Name, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: c.Request.TLS != nil,
	})
	c.JSON(http.StatusOK, p)
}
