package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/sse/feed"
)

// session is who signed in, and until when it holds.
type session struct {
	Name    string    `json:"name"`
	Role    string    `json:"role"`
	Expires time.Time `json:"expires,omitzero"`
}

// Roles. Whoever signs in chooses one, which proves nothing: it stands here for what an application
// looks up with the password.
const (
	roleAgent = "agent"
	roleAdmin = "admin"
)

// agent is whose request it is. Requests of visitors, who have not signed in, do not have it.
var agent = ginsse.NewKey[session]("agent")

// perAgent returns a feed.Limits.Key: an agent's streams are counted together wherever they come
// from, those of visitors by what visitor says of a request.
func perAgent(visitor func(*http.Request) string) func(*http.Request) string {
	return func(r *http.Request) string {
		if who, ok := agent.Get(r.Context()); ok {
			return "agent " + who.Name
		}
		if client := visitor(r); client != "" {
			return "visitor " + client
		}
		return ""
	}
}

// leaseKey is what is revoked to end an agent's streams.
func leaseKey(name string) string { return "agents/" + name }

// identify is the guard of streams that belong to somebody: it finds out whose stream it is, and
// ends the stream when that does not hold any more. The browser comes back then, and is asked anew.
func identify[P any](t *ticketController) func(*ginsse.Context[P]) error {
	return func(c *ginsse.Context[P]) error {
		claimed, ok := readCookie(c.Request())
		if !ok {
			return nil // a visitor
		}
		// First the lease, then the check: of a sign-out in between the lease is told, and one from
		// before shows in the check.
		if err := c.Lease(t.hub, leaseKey(claimed.Name)); err != nil {
			return err
		}
		who, ok, err := t.signedIn(c.Context(), claimed)
		if err != nil {
			return feed.Status(http.StatusServiceUnavailable, err)
		}
		if ok {
			agent.Set(c.Gin(), who)
			c.ExpireAt(who.Expires)
		}
		return nil
	}
}

// adminsOnly is a guard with two answers: 401 for who did not sign in, 403 for who is not an admin.
func adminsOnly(c *ginsse.Context[struct{}]) error {
	switch who, ok := agent.Get(c.Context()); {
	case !ok:
		return ginsse.ErrUnauthorized
	case who.Role != roleAdmin:
		return ginsse.ErrForbidden
	}
	return nil
}

// cookie is what the browser keeps. The stores know its digest only, so what is said in it cannot
// be altered, and who reads a store cannot sign in with it.
type cookie struct {
	Name  string `json:"name"`
	Role  string `json:"role"`
	Token string `json:"token"`

	digest string
}

const cookieName = "tickets_session"

func digest(value string) string {
	sum := sha256.Sum256([]byte(value))
	return hex.EncodeToString(sum[:])
}

// readCookie returns what a request claims.
func readCookie(r *http.Request) (cookie, bool) {
	found, err := r.Cookie(cookieName)
	if err != nil {
		return cookie{}, false
	}
	data, err := base64.RawURLEncoding.DecodeString(found.Value)
	claimed := cookie{digest: digest(found.Value)}
	if err != nil || json.Unmarshal(data, &claimed) != nil {
		return cookie{}, false
	}
	name, err := agentNamed(claimed.Name)
	return claimed, err == nil && name == claimed.Name
}

func agentNamed(name string) (string, error) { return required("name", name, maxAssignee, false) }

// signedIn reports whether a claim is true.
func (t *ticketController) signedIn(ctx context.Context, claimed cookie) (session, bool, error) {
	expires, err := t.sessions.expiry(ctx, claimed.Name, claimed.digest)
	if err != nil || !time.Now().Before(expires) {
		return session{}, false, err
	}
	return session{Name: claimed.Name, Role: claimed.Role, Expires: expires}, true, nil
}

func (t *ticketController) signIn(c *gin.Context) {
	var body struct {
		Name string `json:"name"`
		Role string `json:"role"`
	}
	if !read(c, &body) {
		return
	}
	name, err := agentNamed(body.Name)
	if err == nil && !slices.Contains([]string{roleAgent, roleAdmin}, body.Role) {
		err = fmt.Errorf("%w role: it must be %s or %s", errInvalid, roleAgent, roleAdmin)
	}
	who := session{Name: name, Role: body.Role, Expires: present().Add(t.sessionTime)}
	if err == nil {
		err = t.start(c, who)
	}
	answer(c, http.StatusCreated, who, err)
}

// start keeps a new session, and gives the browser its cookie.
func (t *ticketController) start(c *gin.Context, who session) error {
	data, err := json.Marshal(cookie{Name: who.Name, Role: who.Role, Token: rand.Text()})
	if err != nil {
		return err
	}
	value := base64.RawURLEncoding.EncodeToString(data)
	if err := t.sessions.add(c.Request.Context(), who.Name, digest(value), who.Expires); err != nil {
		return err
	}
	setCookie(c, value, who.Expires)
	return nil
}

// setCookie sets the cookie, or deletes it with a time that is over. Scripts cannot read it, and
// requests that other sites bring about do not have it. Behind a proxy with TLS it should be Secure
// in any case.
func setCookie(c *gin.Context, value string, expires time.Time) {
	http.SetCookie(c.Writer, &http.Cookie{ //nolint:gosec // Secure where there is TLS: on the loopback interface there is none
		Name: cookieName, Value: value, Path: "/", Expires: expires, HttpOnly: true, Secure: c.Request.TLS != nil, SameSite: http.SameSiteStrictMode,
	})
}

// signOutEverywhere ends all sessions of an agent, and all streams, on every instance.
func (t *ticketController) signOutEverywhere(c *gin.Context) {
	ctx := c.Request.Context()
	var who session
	claimed, ok := readCookie(c.Request)
	if ok {
		var err error
		if who, ok, err = t.signedIn(ctx, claimed); err != nil {
			answer(c, 0, nil, err)
			return
		}
	}
	if !ok {
		fail(c, http.StatusUnauthorized, "nobody is signed in")
		return
	}
	// First what the guards look at, then the streams: those that are back are found signed out.
	err := t.sessions.removeAll(ctx, who.Name)
	if err == nil {
		if err = t.hub.Revoke(ctx, leaseKey(who.Name)); err != nil {
			// So that it can be asked for again. The streams end with their sessions' time at the
			// latest.
			_ = t.sessions.add(context.WithoutCancel(ctx), who.Name, claimed.digest, who.Expires)
			err = fmt.Errorf("%w: %w", errAway, err)
		}
	}
	if err != nil {
		answer(c, 0, nil, err)
		return
	}
	setCookie(c, "", time.Unix(1, 0))
	c.Status(http.StatusNoContent)
}
