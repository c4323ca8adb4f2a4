package jsonbody_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/headrace/headrace/examples/internal/jsonbody"
)

// TestProblemOfTheNetwork: a client that stalls is not told of addresses of the inside.
func TestProblemOfTheNetwork(t *testing.T) {
	err := &net.OpError{Op: "read", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 5), Port: 8080}, Err: os.ErrDeadlineExceeded}
	if got := jsonbody.Problem(err); got != "it could not be read" {
		t.Errorf("%q", got)
	}
}

func TestProblem(t *testing.T) {
	for body, want := range map[string]string{
		`{"items":[{"quantity":1.5}]}`:   "items.quantity cannot be a number 1.5",
		`{"items":[{"quantity":"two"}]}`: "items.quantity cannot be a string",
		`[]`:                             "it cannot be an array",
		``:                               "it is empty",
		`two`:                            "invalid character 'w'",
		`{"name":`:                       "unexpected EOF",
		`{"price":1}`:                    `unknown field "price"`,
		strings.Repeat(" ", 200) + `{}`:  "too large: at most 100 bytes",
		`{"name":"` + "\x01" + `"}`:      "invalid character",
	} {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		d := json.NewDecoder(http.MaxBytesReader(httptest.NewRecorder(), io.NopCloser(r.Body), 100))
		d.DisallowUnknownFields()
		err := d.Decode(&struct {
			Name  string `json:"name"`
			Items []struct {
				Quantity int64 `json:"quantity"`
			} `json:"items"`
		}{})
		if err == nil {
			t.Fatalf("%s: no error", body)
		}
		if got := jsonbody.Problem(err); !strings.Contains(got, want) || strings.Contains(got, "Go ") || strings.Contains(got, "int64") {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
}
