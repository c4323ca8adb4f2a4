package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/examples/internal/jsonbody"
	"github.com/headrace/headrace/examples/internal/pages"
	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse/feed"
)

// controller has the routes: commands go in by POST, what happened comes out as a feed, and the
// rooms are there to be asked for.
type controller struct {
	hub     *hub.Hub
	buses   *buses
	limits  *feed.Limits // of the streams
	streams pages.Connections
}

// Routes implements ginsse.Controller.
func (d *controller) Routes(r gin.IRouter) error {
	r.POST("/commands/:command", d.command)
	r.GET("/rooms", func(c *gin.Context) { c.JSON(http.StatusOK, d.buses.desk.view()) })
	r.POST("/debug/drop", d.streams.Drop)
	r.POST("/debug/lose", func(c *gin.Context) {
		d.buses.attempts.loseNext(2)
		c.JSON(http.StatusOK, d.buses.attempts.tally())
	})
	r.GET("/debug/attempts", func(c *gin.Context) { c.JSON(http.StatusOK, d.buses.attempts.tally()) })
	return ginsse.Mount(r, ginsse.SSE[struct{}]("/events").Use(d.streams.Track).Options(ginsse.Options{Limits: d.limits}).Topic(d.hub, eventsTopic))
}

// parsers make commands of the bodies of requests, by the names of the commands.
var parsers = map[string]func(body []byte) (command, error){
	"BookRoom":      parse[BookRoom],
	"CancelBooking": parse[CancelBooking],
	"CheckIn":       parse[CheckIn],
	"CheckOut":      parse[CheckOut],
	"CleanRoom":     parse[CleanRoom],
}

func parse[C command](body []byte) (command, error) {
	var c C
	d := json.NewDecoder(strings.NewReader(string(body)))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return nil, errors.New("the body is not the JSON of this command: " + jsonbody.Problem(err))
	}
	if book, ok := any(&c).(*BookRoom); ok {
		if err := checkGuest(&book.Guest); err != nil {
			return nil, err
		}
	}
	return c, nil
}

const maxGuest = 60 // characters

// checkGuest trims a name, which must be one.
func checkGuest(name *string) error {
	*name = strings.TrimSpace(*name)
	switch n := utf8.RuneCountInString(*name); {
	case n == 0:
		return errors.New("the name of the guest is missing")
	case n > maxGuest:
		return fmt.Errorf("the name of the guest has %d characters, and may have %d", n, maxGuest)
	case strings.ContainsFunc(*name, unicode.IsControl):
		return errors.New("the name of the guest has control characters")
	}
	return nil
}

const maxBody = 4 << 10

// idLetters are what the ID of a command may be made of.
const idLetters = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// command accepts a command. It is answered before it is decided: what becomes of it, a refusal
// too, is an event that has its ID.
func (d *controller) command(c *gin.Context) {
	parse := parsers[c.Param("command")]
	if parse == nil {
		fail(c, http.StatusNotFound, "there is no such command")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, maxBody))
	if err != nil {
		fail(c, http.StatusBadRequest, "the body could not be read: "+jsonbody.Problem(err))
		return
	}
	made, err := parse(body)
	if err != nil {
		fail(c, http.StatusBadRequest, err.Error())
		return
	}
	// Whoever repeats a request with the same key means the same command: it is decided once.
	id := c.GetHeader("Idempotency-Key")
	if id == "" {
		id = rand.Text()
	} else if !validID(id) {
		fail(c, http.StatusBadRequest, "the Idempotency-Key may have up to 64 letters, digits and dashes")
		return
	}
	switch err := d.buses.send(c.Request.Context(), id, made); {
	case err == nil:
		c.JSON(http.StatusAccepted, gin.H{"command": id})
	case errors.Is(err, errBusy):
		c.Header("Retry-After", "1")
		fail(c, http.StatusServiceUnavailable, err.Error())
	default:
		_ = c.Error(err)
		fail(c, http.StatusInternalServerError, "internal server error")
	}
}

func validID(s string) bool {
	strange := func(r rune) bool { return !strings.ContainsRune(idLetters, r) }
	return len(s) <= 64 && !strings.ContainsFunc(s, strange)
}

func fail(c *gin.Context, code int, text string) {
	c.AbortWithStatusJSON(code, gin.H{"error": text})
}
