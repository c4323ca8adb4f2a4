package main

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/headrace/headrace/hub"
)

// publishTimeout is for one message. One that is not through by then is given up: a newer reading
// follows.
const publishTimeout = 2 * time.Second

// machine is a simulated machine. Now and then there is a rush, in which the throughput goes up,
// the load with it, and after a while the temperature; and now and then one of its sensors is
// calibrated. Everything but the time of day follows from the seed.
type machine struct {
	site string
	rand *rand.Rand

	second      float64 // since the start, in the machine's own time
	rush        span
	calibration span
	calibrated  int // index of the sensor
	calibrating bool
	values      []float64 // of the machine, in the order of sensors
	seq         int64
	raised      []bool // the alarms that were published
}

// span is a time in which something is the case.
type span struct{ from, to float64 }

func (s span) has(second float64) bool { return s.from <= second && second < s.to }

func newMachine(site string, seed, stream uint64) *machine {
	m := &machine{site: site, rand: rand.New(rand.NewPCG(seed, stream)), values: []float64{71, 63, 43}, raised: make([]bool, len(sensors))}
	m.rush = m.span(6, 10, 14, 20)
	m.calibration = m.span(4, 8, 5, 7)
	m.calibrated = m.rand.IntN(len(sensors))
	return m
}

// span draws the next span: after some seconds, for some seconds.
func (m *machine) span(minAfter, maxAfter, minFor, maxFor float64) span {
	from := m.second + minAfter + (maxAfter-minAfter)*m.rand.Float64()
	return span{from, from + minFor + (maxFor-minFor)*m.rand.Float64()}
}

// output is a message for a topic.
type output struct {
	topic string
	value hub.Typed
}

// step lets some time pass, and returns what the machine publishes then.
func (m *machine) step(now time.Time, seconds float64) (out []output) {
	m.second += seconds
	m.seq++
	if m.second >= m.rush.to {
		m.rush = m.span(15, 30, 14, 20)
	}
	m.move(seconds)
	at := now.UnixMilli()
	calibrating := m.calibration.has(m.second)
	if calibrating != m.calibrating {
		m.calibrating = calibrating
		text := "calibration begins"
		if !calibrating {
			text = "calibration is done"
		}
		out = append(out, output{alarmsTopic(m.site), note{sensors[m.calibrated].Name, at, text}})
	}
	for i := range sensors {
		s := &sensors[i]
		r := reading{Seq: m.seq, At: at, Raw: s.raw(m.values[i])}
		if calibrating && i == m.calibrated {
			r.Raw, r.Calibration = s.raw(m.reference(s)), true
		} else if raised := s.value(r.Raw) > s.Limit; raised != m.raised[i] && (raised || s.value(r.Raw) < .97*s.Limit) {
			out = append(out, output{alarmsTopic(m.site), alarm{s.Name, at, raised}})
		}
		out = append(out, output{metricsTopic(m.site, s.Name), r})
	}
	if m.second >= m.calibration.to {
		m.calibration = m.span(15, 25, 5, 7)
		m.calibrated = m.rand.IntN(len(sensors))
	}
	return out
}

// move moves the values of the machine to where they tend, each at its own pace.
func (m *machine) move(seconds float64) {
	temperature, load, throughput := &m.values[0], &m.values[1], &m.values[2]
	tends := 43.0
	if m.rush.has(m.second) {
		tends = 67
	}
	near := func(v *float64, to, pace, noise float64) {
		*v += (to-*v)*min(1, seconds/pace) + noise*m.rand.NormFloat64()*min(1, seconds*2)
	}
	near(throughput, tends, 3, .9)
	near(load, *throughput*1.45, 1, 1)
	near(temperature, 45+*load*.42, 5, .25)
}

// reference is what a sensor is shown while it is calibrated: a low, a middle and a high value.
func (m *machine) reference(s *sensor) float64 {
	part := (m.second - m.calibration.from) / (m.calibration.to - m.calibration.from)
	third := float64(min(2, int(3*part)))
	return s.Low + (s.High-s.Low)*(.2+.3*third)
}

// run publishes until ctx ends.
func (m *machine) run(ctx context.Context, h *hub.Hub, rate int) {
	every := time.Second / time.Duration(rate)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			var failed error
			for _, o := range m.step(now, every.Seconds()) {
				if err := m.publish(ctx, h, o); err != nil {
					failed = err
				}
			}
			if ctx.Err() == nil && (failed != nil) != failing {
				failing = failed != nil
				slog.Warn("machine", "site", m.site, "publishing", !failing, "error", failed)
			}
		}
	}
}

func (m *machine) publish(ctx context.Context, h *hub.Hub, o output) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	_, err := hub.NewTopic[hub.Typed](h, o.topic).Publish(ctx, o.value)
	if a, ok := o.value.(alarm); ok && err == nil {
		// An alarm that was not published comes again with the next reading.
		m.raised[sensorNamed(a.Sensor)] = a.Raised
	}
	return err
}

// sensorNamed returns the index of a sensor, -1 if there is none.
func sensorNamed(name string) int {
	for i := range sensors {
		if sensors[i].Name == name {
			return i
		}
	}
	return -1
}

// startMachines starts the machine of each site, at a rate of readings a second, and returns what
// stops them all; at the rate 0 there are none. A site that nothing is known of begins with the
// last minutes, so that a page has something to show at once.
func startMachines(ctx context.Context, h *hub.Hub, rate int, seed uint64, past time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	if rate > 0 {
		for i, site := range sites {
			m := newMachine(site, seed, uint64(i))
			running.Go(func() {
				m.catchUp(ctx, h, rate, past)
				m.run(ctx, h, rate)
			})
		}
	}
	return func() {
		cancel()
		running.Wait()
	}
}

// catchUp publishes what the machine would have published in some time until now, unless there are
// readings.
func (m *machine) catchUp(ctx context.Context, h *hub.Hub, rate int, past time.Duration) {
	info, err := h.Info(ctx, metricsTopic(m.site, sensors[0].Name))
	if err != nil || info.Exists {
		return
	}
	every := time.Second / time.Duration(rate)
	now := time.Now()
	for at := now.Add(-past); at.Before(now) && ctx.Err() == nil; at = at.Add(every) {
		for _, o := range m.step(at, every.Seconds()) {
			if m.publish(ctx, h, o) != nil {
				return
			}
		}
	}
}
