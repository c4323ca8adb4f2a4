package main

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/hub"
)

// TestMachines: in two minutes each sensor publishes at the rate, in sequence, within the chart;
// alarms are raised and cleared, and there is maintenance to be seen.
func TestMachines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := hub.New(memory.New(memory.Options{}), hub.Options{})
		if err != nil {
			t.Fatal(err)
		}
		const rate, minutes = 5, 2
		stop := startMachines(t.Context(), h, rate, 1, 0)
		time.Sleep(minutes*time.Minute + time.Second/rate/2)
		stop()
		for _, site := range sites {
			for i := range sensors {
				s, n, calibrations := &sensors[i], int64(0), 0
				for m := range retained(t, h, metricsTopic(site, s.Name)) {
					var r reading
					if err := json.Unmarshal(m.Data, &r); err != nil {
						t.Fatal(err)
					}
					if n++; r.Seq != n {
						t.Fatalf("%s %s: seq %d follows %d", site, s.Name, r.Seq, n-1)
					}
					if v := s.value(r.Raw); v < s.Low || v > s.High {
						t.Errorf("%s %s: %v is not in the chart", site, s.Name, v)
					}
					if m.Type == typeMaintenance {
						calibrations++
					}
				}
				if want := int64(rate * minutes * 60); n != want {
					t.Errorf("%s %s: %d readings, want %d", site, s.Name, n, want)
				}
				if calibrations > 120*rate/2 {
					t.Errorf("%s %s: %d calibrations are most of the time", site, s.Name, calibrations)
				}
			}
			raised, alarms, notes := map[string]bool{}, 0, 0
			for m := range retained(t, h, alarmsTopic(site)) {
				if m.Type == typeMaintenance {
					notes++
					continue
				}
				var a alarm
				if err := json.Unmarshal(m.Data, &a); err != nil {
					t.Fatal(err)
				}
				if alarms++; a.Raised == raised[a.Sensor] {
					t.Errorf("%s: the alarm of %s is told twice", site, a.Sensor)
				}
				raised[a.Sensor] = a.Raised
			}
			if alarms < 4 || notes < 4 {
				t.Errorf("%s: %d alarms and %d notes are not much to see", site, alarms, notes)
			}
		}
		if err := h.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// retained returns the messages that are in a topic.
func retained(t *testing.T, h *hub.Hub, topic string) func(func(hub.Message) bool) {
	return func(yield func(hub.Message) bool) {
		sub, err := h.Subscribe(t.Context(), topic, hub.Earliest())
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Close()
		for {
			b := sub.Poll(nil, 100, 1<<20)
			for _, e := range b.Entries {
				if !yield(e.Message) {
					return
				}
			}
			switch b.Status {
			case hub.Behind:
				if err := sub.Fetch(t.Context()); err != nil {
					t.Fatal(err)
				}
			case hub.Waiting, hub.Ended:
				return
			}
		}
	}
}

func TestSeed(t *testing.T) {
	life := func(seed, stream uint64) string {
		m := newMachine("oslo", seed, stream)
		var out []output
		for i := range 200 {
			out = append(out, m.step(time.Unix(int64(i), 0), .5)...)
		}
		return fmt.Sprint(out)
	}
	one := life(1, 0)
	if again := life(1, 0); again != one {
		t.Error("the same seed gives another life")
	}
	if one == life(2, 0) || one == life(1, 1) {
		t.Error("another seed or site gives the same life")
	}
}

// refusing is a backend that may refuse messages of a type.
type refusing struct {
	*memory.Backend
	kind string
}

func (r *refusing) Publish(ctx context.Context, topic string, m hub.Message) (hub.ID, error) {
	if m.Type == r.kind {
		return "", hub.ErrRejected
	}
	return r.Backend.Publish(ctx, topic, m)
}

// TestAlarmIsPublishedAtLast: an alarm that could not be published comes again until it is.
func TestAlarmIsPublishedAtLast(t *testing.T) {
	backend := &refusing{memory.New(memory.Options{}), typeAlarm}
	h, err := hub.New(backend, hub.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	m := newMachine("oslo", 1, 0)
	refused, late := 0, map[string]bool{}
	for i := range 400 {
		for _, o := range m.step(time.Unix(int64(i), 0), .5) {
			if err := m.publish(t.Context(), h, o); err != nil {
				refused++
				late[o.value.(alarm).Sensor] = true
			}
		}
		if refused >= 3 {
			backend.kind = ""
		}
	}
	if refused < 3 {
		t.Fatalf("%d alarms were refused", refused)
	}
	for message := range retained(t, h, alarmsTopic("oslo")) {
		var a alarm
		if err := json.Unmarshal(message.Data, &a); err != nil {
			t.Fatal(err)
		}
		if message.Type == typeAlarm && late[a.Sensor] {
			delete(late, a.Sensor)
			if !a.Raised {
				t.Errorf("the alarm of %s was never raised", a.Sensor)
			}
		}
	}
	if len(late) > 0 {
		t.Errorf("no alarms of %v", late)
	}
}
