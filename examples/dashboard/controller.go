package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/examples/internal/pages"
	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed"
)

// chartWindow is the time that the chart shows.
const chartWindow = 2 * time.Minute

// controller has the routes.
type controller struct {
	hub     *hub.Hub
	limits  *feed.Limits
	drain   *feed.Drain
	streams pages.Connections
}

// siteParams are the parameters of a site's feed.
type siteParams struct {
	Site string // :site
}

// siteContext is what guards, Filter and Map of a site's feed get.
type siteContext = ginsse.Context[siteParams]

// Routes implements ginsse.Controller.
func (d *controller) Routes(r gin.IRouter) error {
	r.GET("/session", session)
	r.POST("/session", signIn)
	r.POST("/debug/drop", d.streams.Drop)
	return ginsse.Mount(r,
		ginsse.SSE[siteParams]("/sites/:site/events").
			Use(d.streams.Track).
			Guard(requirePerson, knownSite).
			TopicsFunc(d.hub, siteTopics).
			Hello(hello).
			Filter(mayRead).
			Map(eventsOf).
			Events("hello", "point", "calibration", "alarm", "note").
			Options(ginsse.Options{
				// Who comes for the first time begins with what the backend retains: the last
				// minutes. It goes through Filter and Map like everything that follows.
				Start:  hub.Earliest(),
				Retry:  time.Second,
				Limits: d.limits,
				Drain:  d.drain,
			}),
	)
}

// knownSite is a guard.
func knownSite(c *siteContext) error {
	if !slices.Contains(sites, c.Params.Site) {
		return ginsse.ErrNotFound
	}
	return nil
}

// siteTopics names all topics of a site. They are the same for everybody: it is Filter that keeps
// messages from people.
func siteTopics(c *siteContext) ([]string, error) {
	topics := []string{alarmsTopic(c.Params.Site)}
	for _, s := range sensors {
		topics = append(topics, metricsTopic(c.Params.Site, s.Name))
	}
	return topics, nil
}

// hello begins each connection: who the server takes the client for, and how to read what comes.
func hello(c *siteContext) (sse.Event, error) {
	p, _ := signedIn.Get(c.Context())
	return sse.Event{Type: "hello", Data: gin.H{
		"name": p.Name, "role": p.Role, "site": c.Params.Site, "sensors": sensors, "seconds": chartWindow.Seconds(),
	}}, nil
}

// mayRead is the filter: a role sees the types that are listed for it, and none that is not.
func mayRead(c *siteContext, _ string, m *hub.Message) bool {
	p, _ := signedIn.Get(c.Context())
	switch m.Type {
	case typeReading, typeAlarm:
		return true
	case typeMaintenance:
		return p.Role == operator
	}
	return false
}

// eventsOf makes what the page needs of what the machines publish. What it cannot read, of a
// foreign publisher perhaps, is passed over.
func eventsOf(c *siteContext, topic string, m *hub.Message) []sse.Event {
	if topic == alarmsTopic(c.Params.Site) {
		return alarmEvents(m)
	}
	for i := range sensors {
		if topic == metricsTopic(c.Params.Site, sensors[i].Name) {
			return pointEvents(&sensors[i], m)
		}
	}
	return nil
}

func pointEvents(s *sensor, m *hub.Message) []sse.Event {
	var r reading
	if json.Unmarshal(m.Data, &r) != nil || r.Seq < 1 {
		return nil
	}
	kind, value := "point", s.value(r.Raw)
	if m.Type == typeMaintenance {
		kind = "calibration"
	}
	return []sse.Event{{Type: kind, Data: point{
		Sensor: s.Name, Seq: r.Seq, At: r.At, Value: value, Unit: s.Unit,
		Hot: kind == "point" && value > s.Limit,
	}}}
}

func alarmEvents(m *hub.Message) []sse.Event {
	if m.Type == typeMaintenance {
		var n note
		if json.Unmarshal(m.Data, &n) != nil {
			return nil
		}
		return []sse.Event{{Type: "note", Data: n}}
	}
	var a alarm
	if json.Unmarshal(m.Data, &a) != nil {
		return nil
	}
	i := sensorNamed(a.Sensor)
	if i < 0 {
		return nil
	}
	limit := strconv.FormatFloat(sensors[i].Limit, 'f', -1, 64)
	return []sse.Event{{Type: "alarm", Data: gin.H{
		"sensor": a.Sensor, "at": a.At, "raised": a.Raised, "text": fmt.Sprintf("above %s %s", limit, sensors[i].Unit),
	}}}
}
