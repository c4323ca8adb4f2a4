package ginsse_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/ginsse"
)

// bound serves one request by a route with parameters P, and returns them, the response, and what
// c.Errors had in the end.
func bound[P any](t testing.TB, path, target string, headers ...string) (params P, w *httptest.ResponseRecorder, left []*gin.Error) {
	t.Helper()
	r := gin.New()
	r.Use(func(c *gin.Context) {
		c.Next()
		left = c.Errors
	})
	mount(t, r, ginsse.SSE[P](path).Options(quiet).Handle(func(c *ginsse.Context[P]) seq {
		params = c.Params
		return events()
	}))
	w = get(r, target, headers...)
	return params, w, left
}

func binds[P any](path, target string, want P, headers ...string) func(*testing.T) {
	return func(t *testing.T) {
		got, w, _ := bound[P](t, path, target, headers...)
		if w.Code != http.StatusOK || !reflect.DeepEqual(got, want) {
			t.Errorf("%d %s\n got %+v\nwant %+v", w.Code, w.Body, got, want)
		}
	}
}

// level decodes itself by a pointer receiver, and is no string on the inside.
type level int

func (l *level) UnmarshalText(text []byte) error {
	switch string(text) {
	case "low":
		*l = 1
	case "high":
		*l = 2
	default:
		return fmt.Errorf("the level store at 10.0.0.1 knows no %q", text)
	}
	return nil
}

func (l level) MarshalText() ([]byte, error) { return []byte([]string{"", "low", "high"}[l]), nil }

// words is a slice that decodes itself: one value, not several.
type words []string

func (w *words) UnmarshalText(text []byte) error {
	*w = strings.Split(string(text), "+")
	return nil
}

type name string

type page struct {
	Limit int `query:"limit"`
	From  int `query:"from"`
}

func TestBind(t *testing.T) {
	type numbers struct {
		I   int     `query:"i"`
		I8  int8    `query:"i8"`
		I16 int16   `query:"i16"`
		I32 int32   `query:"i32"`
		I64 int64   `query:"i64"`
		U   uint    `query:"u"`
		U8  uint8   `query:"u8"`
		U16 uint16  `query:"u16"`
		U32 uint32  `query:"u32"`
		U64 uint64  `query:"u64"`
		F32 float32 `query:"f32"`
		F64 float64 `query:"f64"`
	}
	type optional struct {
		S *string        `query:"s"`
		I *int           `query:"i"`
		D *time.Duration `header:"D"`
		T *time.Time     `query:"t"`
		L *level         `query:"l"`
	}
	type lists struct {
		S []string        `query:"s"`
		I []int           `header:"I"`
		D []time.Duration `query:"d"`
		L []level         `query:"l"`
		W words           `query:"w"`
	}
	one, s, d, moment, high := 1, "", time.Minute, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), level(2)
	for name, test := range map[string]func(*testing.T){
		"numbers": binds("/n", "/n?i=-1&i8=-128&i16=-32768&i32=-2147483648&i64=-9223372036854775808"+
			"&u=1&u8=255&u16=65535&u32=4294967295&u64=18446744073709551615&f32=0.5&f64=-1e300",
			numbers{-1, -128, -32768, -2147483648, -9223372036854775808, 1, 255, 65535, 4294967295, 18446744073709551615, 0.5, -1e300}),
		"numbers absent": binds("/n", "/n", numbers{}),
		"path": binds("/:s/:i/:b/:d/:t/:l/:a", "/a%20b/07/true/1m30s/2026-01-02T03:04:05Z/high/10.0.0.1", struct {
			S string
			I int64
			B bool
			D time.Duration
			T time.Time
			L level
			A netip.Addr
		}{"a b", 7, true, 90 * time.Second, moment, 2, netip.AddrFrom4([4]byte{10, 0, 0, 1})}),
		"header": binds("/h", "/h", struct {
			Tenant string        `header:"x-tenant,required"`
			Number int           `header:"X-Number"`
			Wait   time.Duration `header:"Wait"`
			Level  level         `header:"Level"`
			On     bool          `header:"On"`
		}{"blue", 3, time.Second, 1, true}, "X-Tenant", "blue", "x-number", "3", "Wait", "1s", "Level", "low", "On", "1"),
		"optional absent":  binds("/o", "/o", optional{}),
		"optional present": binds("/o", "/o?s=&i=1&t=2026-01-02T03:04:05Z&l=high", optional{&s, &one, &d, &moment, &high}, "D", "1m"),
		"lists": binds("/l", "/l?s=a&s=&s=b&d=1s&d=2s&l=low&l=high&w=x%2By",
			lists{[]string{"a", "", "b"}, []int{1, 2}, []time.Duration{1e9, 2e9}, []level{1, 2}, words{"x", "y"}}, "I", "1", "I", "2"),
		"lists absent":   binds("/l", "/l", lists{}),
		"a named string": binds("/:name", "/ann", struct{ Name name }{"ann"}),
		"required query": binds("/q", "/q?a=1&b=2&b=3", struct {
			A int   `query:"a,required"`
			B []int `query:"b,required"`
		}{1, []int{2, 3}}),
		"embedded": binds("/:ticket", "/7?limit=3&from=4", struct {
			page
			Ticket int
		}{page{3, 4}, 7}),
		"embedded and shadowed": binds("/e", "/e?limit=3&own=4", struct {
			page
			Limit int `query:"own"`
		}{Limit: 4}),
		"left out": binds("/:a", "/x", struct {
			A     string
			Cache map[string]int `path:"-"`
			state chan int
		}{A: "x"}),
		"nothing": binds("/", "/?a=1", struct{}{}),
		"tag over name": binds("/:a/:b", "/1/2", struct {
			B string `path:"a"`
			A string `path:"b"`
		}{"1", "2"}),
		"same name twice": binds("/:id", "/1?id=2", struct {
			ID int
			Q  int `query:"id"`
			H  int `header:"ID"`
		}{1, 2, 3}, "ID", "3"),
		"wildcard":        binds("/files/*file", "/files/a/b", struct{ File string }{"/a/b"}),
		"in a segment":    binds("/v:version/x", "/v12/x", struct{ Version int }{12}),
		"path over query": binds("/:ticket", "/7?ticket=8", struct{ Ticket int }{7}),
	} {
		t.Run(name, test)
	}
}

// TestBindNames holds that a field without a tag finds its parameter whatever the usual ways of
// writing it.
func TestBindNames(t *testing.T) {
	type params struct{ TicketID string }
	for _, p := range []string{"ticketid", "ticketID", "TicketID", "TICKETID", "ticket_id", "ticket-id", "ticketId", "Ticket_ID", "_ticket_id"} {
		t.Run(p, binds("/:"+p+"/events", "/7/events", params{"7"}))
	}
	t.Run("ticket", binds("/:ticket", "/7", struct{ Ticket string }{"7"}))
	t.Run("Ticket", binds("/:Ticket", "/7", struct{ Ticket string }{"7"}))
	t.Run("Ticket_ID", binds("/:ticketID", "/7", struct{ Ticket_ID string }{"7"}))
}

func refuses[P any](path, target, in, name, reason string, headers ...string) func(*testing.T) {
	return func(t *testing.T) {
		_, w, left := bound[P](t, path, target, headers...)
		isRefusal(t, w, http.StatusBadRequest, in+" parameter \""+name+"\": "+reason)
		var p *ginsse.ParameterError
		if len(left) != 1 || !errors.As(left[0], &p) || p.In != in || p.Name != name {
			t.Fatalf("c.Errors: %v", left)
		}
		if text := p.Error(); !strings.HasPrefix(text, "ginsse: ") || strings.Contains(text+w.Body.String(), canary) || strings.Contains(w.Body.String(), "10.0.0.1") {
			t.Errorf("the error is %q, the body %s", text, w.Body)
		}
	}
}

// canary stands for a value that a client would not like to find in a log.
const canary = "s3cret"

func TestBindRefuses(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"path number":     refuses[struct{ Ticket int64 }]("/:ticket", "/"+canary, "path", "ticket", "must be a whole number"),
		"path empty":      refuses[struct{ Ticket string }]("/t/:ticket/events", "/t//events", "path", "ticket", "is missing"),
		"path self":       refuses[struct{ Level level }]("/:level", "/"+canary, "path", "level", "is malformed"),
		"too large":       refuses[struct{ N int8 }]("/:n", "/128", "path", "n", "is out of range"),
		"far too large":   refuses[struct{ N int64 }]("/:n", "/9999999999999999999999", "path", "n", "is out of range"),
		"negative":        refuses[struct{ N uint }]("/:n", "/-1", "path", "n", "must be a whole number, not negative"),
		"fraction":        refuses[struct{ N int }]("/:n", "/1.5", "path", "n", "must be a whole number"),
		"hexadecimal":     refuses[struct{ N int }]("/:n", "/0x10", "path", "n", "must be a whole number"),
		"bool":            refuses[struct{ B bool }]("/:b", "/maybe", "path", "b", "must be true or false"),
		"float":           refuses[struct{ F float64 }]("/:f", "/"+canary, "path", "f", "must be a number"),
		"float too large": refuses[struct{ F float32 }]("/:f", "/1e39", "path", "f", "is out of range"),
		"not a number":    refuses[struct{ F float64 }]("/:f", "/NaN", "path", "f", "must be a number"),
		"infinite":        refuses[struct{ F float64 }]("/:f", "/-Inf", "path", "f", "must be a number"),
		"duration": refuses[struct {
			D time.Duration `query:"since"`
		}]("/d", "/d?since=10", "query", "since", "must be a duration with a unit, such as 1m30s"),
		"time": refuses[struct {
			T *time.Time `query:"t"`
		}]("/t", "/t?t="+canary, "query", "t", "is malformed"),
		"query required": refuses[struct {
			Q string `query:"q,required"`
		}]("/q", "/q?Q=1", "query", "q", "is missing"),
		"query required but empty": refuses[struct {
			Q string `query:"q,required"`
		}]("/q", "/q?q=", "query", "q", "is missing"),
		"query empty number": refuses[struct {
			Q int `query:"q"`
		}]("/q", "/q?q=", "query", "q", "must be a whole number"),
		"query repeated": refuses[struct {
			Q string `query:"q"`
		}]("/q", "/q?q="+canary+"&q=2", "query", "q", "is there more than once"),
		"query list": refuses[struct {
			Q []int `query:"q"`
		}]("/q", "/q?q=1&q="+canary, "query", "q", "must be a whole number"),
		"query list required": refuses[struct {
			Q []string `query:"q,required"`
		}]("/q", "/q", "query", "q", "is missing"),
		"header required": refuses[struct {
			T string `header:"X-Tenant,required"`
		}]("/h", "/h", "header", "X-Tenant", "is missing"),
		"header": refuses[struct {
			A level `header:"Authorization"`
		}]("/h", "/h", "header", "Authorization", "is malformed", "Authorization", "Bearer "+canary),
		"header repeated": refuses[struct {
			A string `header:"Authorization"`
		}]("/h", "/h", "header", "Authorization", "is there more than once", "Authorization", canary, "Authorization", "x"),
		"the first of two": refuses[struct {
			A int
			B int
		}]("/:a/:b", "/x/y", "path", "a", "must be a whole number"),
	} {
		t.Run(name, test)
	}
}

// TestBindKeepsCause holds that middleware can look at what a type's own decoding said, which
// clients and logs are not shown.
func TestBindKeepsCause(t *testing.T) {
	type params struct {
		At time.Time `query:"at"`
	}
	_, _, left := bound[params](t, "/", "/?at=noon")
	var cause *time.ParseError
	if len(left) != 1 || !errors.As(left[0], &cause) {
		t.Errorf("c.Errors: %v", left)
	}
}

// FuzzBind: whatever a request holds, the answer is a stream or a status below 500 that names the
// parameter.
func FuzzBind(f *testing.F) {
	type params struct {
		page
		Ticket int64
		Name   string
		Since  time.Duration `query:"since"`
		At     *time.Time    `query:"at"`
		Level  level         `query:"level"`
		Labels []string      `query:"label"`
		Rates  []float32     `query:"rate"`
		Tenant name          `header:"X-Tenant"`
		Number *uint8        `header:"X-Number"`
		On     bool          `header:"On"`
	}
	r := engine(f,
		ginsse.SSE[params]("/tickets/:ticket/:name").Options(quiet).Handle(func(*ginsse.Context[params]) seq { return events() }))
	f.Add("7", "a", "limit=1&since=1m&at=2026-01-02T03:04:05Z&level=low&label=a&label=b&rate=1", "blue", "1", "true")
	f.Add("07", "\xff", "%zz&;&limit", "\r\n", "256", "")
	f.Add("", "../x", "limit=1&limit=2", "\x00", "-", "2")
	f.Add("9223372036854775808", "%2F", "since=9999999999999h&rate=nan&at=", strings.Repeat("x", 1000), "0x1", "T")
	f.Fuzz(func(t *testing.T, ticket, name, query, tenant, number, on string) {
		w := httptest.NewRecorder()
		r.ServeHTTP(w, &http.Request{
			Method: http.MethodGet, ProtoMajor: 1, ProtoMinor: 1,
			URL:    &url.URL{Path: "/tickets/" + ticket + "/" + name, RawQuery: query},
			Header: http.Header{"X-Tenant": {tenant}, "X-Number": {number}, "On": {on}},
		})
		switch w.Code {
		case http.StatusOK, http.StatusNotFound, http.StatusMovedPermanently, http.StatusTemporaryRedirect:
		case http.StatusBadRequest:
			var body struct{ Error string }
			if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || !strings.Contains(body.Error, " parameter \"") && body.Error != "the query is malformed" {
				t.Errorf("400 with %q", w.Body)
			}
		default:
			t.Errorf("status %d: %s", w.Code, w.Body)
		}
	})
}
