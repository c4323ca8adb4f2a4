package main

import (
	"math"

	"github.com/headrace/headrace/hub"
)

// sites are the places that have a machine.
var sites = []string{"oslo", "turin"}

// sensor is something that is measured on every machine, and how to read it.
type sensor struct {
	Name  string  `json:"name"`
	Unit  string  `json:"unit"`
	Limit float64 `json:"limit"` // a value above it is hot
	Low   float64 `json:"low"`   // the range of the chart
	High  float64 `json:"high"`
	// Decimals of a value are what the sensor is good for.
	Decimals int `json:"decimals"`
	// step is what one step of a raw value is worth.
	step float64
}

// sensors are the same on every machine.
var sensors = []sensor{
	{Name: "temperature", Unit: "°C", Limit: 80, Low: 50, High: 95, Decimals: 1, step: .001},
	{Name: "load", Unit: "%", Limit: 90, Low: 20, High: 110, Decimals: 0, step: .05},
	{Name: "throughput", Unit: "parts/min", Limit: 62, Low: 20, High: 80, Decimals: 1, step: .01},
}

// value makes a value of a raw one, rounded to the sensor's decimals.
func (s *sensor) value(raw int64) float64 {
	places := math.Pow10(s.Decimals)
	return math.Round(float64(raw)*s.step*places) / places
}

// raw is what the machine reports for a value.
func (s *sensor) raw(value float64) int64 { return int64(math.Round(value / s.step)) }

// metricsTopic and alarmsTopic name the topics of a site.
func metricsTopic(site, sensor string) string { return hub.JoinTopic("metrics", site, sensor) }
func alarmsTopic(site string) string          { return hub.JoinTopic("alarms", site) }

// Types of messages.
const (
	typeReading     = "reading"
	typeAlarm       = "alarm"
	typeMaintenance = "maintenance" // in any topic, for operators only
)

// reading is what a machine publishes to the topic of a sensor: steps of the converter, which mean
// nothing without the sensor's data sheet.
type reading struct {
	Seq int64 `json:"seq"` // 1, 2, … of each sensor
	At  int64 `json:"at"`  // milliseconds since 1970
	Raw int64 `json:"raw"`
	// Calibration says that the sensor measures a reference and not the machine.
	Calibration bool `json:"-"`
}

// MessageType implements hub.Typed.
func (r reading) MessageType() string {
	if r.Calibration {
		return typeMaintenance
	}
	return typeReading
}

// alarm says that a sensor's value went over its limit, or is well below it again. It says what is,
// so getting it twice does no harm.
type alarm struct {
	Sensor string `json:"sensor"`
	At     int64  `json:"at"`
	Raised bool   `json:"raised"`
}

// MessageType implements hub.Typed.
func (alarm) MessageType() string { return typeAlarm }

// note is what the maintenance team writes into the alarms of a site.
type note struct {
	Sensor string `json:"sensor"`
	At     int64  `json:"at"`
	Text   string `json:"text"`
}

// MessageType implements hub.Typed.
func (note) MessageType() string { return typeMaintenance }

// point is a reading as the chart wants it.
type point struct {
	Sensor string  `json:"sensor"`
	Seq    int64   `json:"seq"`
	At     int64   `json:"at"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Hot    bool    `json:"hot"`
}
