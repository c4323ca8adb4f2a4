package ginsse

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/headrace/headrace/hub"
)

// template names a topic by the values of parameters: "tickets/{ticket}".
type template struct {
	literals []string // one more than fields; the text before, between and after them
	fields   []*field
}

// newTemplate parses a template and looks up its names among the parameters.
func newTemplate(text string, b *binder, params reflect.Type) (*template, error) {
	t := &template{}
	rest := text
	for {
		open := strings.IndexAny(rest, "{}")
		if open < 0 {
			t.literals = append(t.literals, rest)
			break
		}
		end := strings.IndexByte(rest, '}')
		if rest[open] == '}' || end < 0 {
			return nil, fmt.Errorf("topic %q: braces do not match", text)
		}
		name := rest[open+1 : end]
		f, err := b.find(name, params)
		if err != nil {
			return nil, fmt.Errorf("topic %q: %w", text, err)
		}
		if len(t.fields) > 0 && !strings.Contains(rest[:open], "/") {
			// Only a slash is in no value: between two values anything else could belong to either.
			return nil, fmt.Errorf("topic %q: there must be a slash between {%s} and the value before it", text, name)
		}
		t.literals = append(t.literals, rest[:open])
		t.fields = append(t.fields, f)
		rest = rest[end+1:]
	}
	// Whatever the values are, they are escaped: a name with one in every place is as valid as any.
	if err := hub.CheckTopic(strings.Join(t.literals, "x")); err != nil {
		return nil, fmt.Errorf("topic %q: %w", text, err)
	}
	return t, nil
}

// templates name the topics of a route.
type templates []*template

func newTemplates(texts []string, b *binder, params reflect.Type) (templates, error) {
	var ts templates
	for _, text := range texts {
		t, err := newTemplate(text, b, params)
		if err != nil {
			return nil, err
		}
		ts = append(ts, t)
	}
	return ts, nil
}

// find returns the parameter of a name that a template has in braces.
func (b *binder) find(name string, params reflect.Type) (*field, error) {
	var found *field
	for i := range b.fields {
		if f := &b.fields[i]; f.name == name {
			if found != nil {
				return nil, fmt.Errorf("{%s} is both a %s and a %s parameter", name, found.in, f.in)
			}
			found = f
		}
	}
	switch {
	case found == nil:
		return nil, fmt.Errorf("{%s} is no parameter of the route", name)
	case found.multiple:
		return nil, fmt.Errorf("{%s} may have several values", name)
	case !found.required:
		return nil, fmt.Errorf("{%s} may be absent: a topic needs a required parameter", name)
	}
	if typ := params.FieldByIndex(found.index).Type; found.model == nil && !hasText(typ) {
		return nil, fmt.Errorf("{%s} is a %s, which has no text: it needs a MarshalText or String method", name, typ)
	}
	return found, nil
}

// hasText reports whether formatValue can make text of a value of type t that is the same for the
// same value.
func hasText(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	if p.Implements(reflect.TypeFor[encoding.TextMarshaler]()) || p.Implements(reflect.TypeFor[fmt.Stringer]()) {
		return true
	}
	switch t.Kind() {
	case reflect.Struct, reflect.Pointer, reflect.Map, reflect.Chan, reflect.Func, reflect.Interface, reflect.Slice, reflect.Array, reflect.UnsafePointer:
		return false
	}
	return true
}

// topic returns the topic's name for the bound parameters v.
func (t *template) topic(v reflect.Value) (string, error) {
	var b strings.Builder
	b.WriteString(t.literals[0])
	for i, f := range t.fields {
		text, err := f.format(v.FieldByIndex(f.index))
		if err != nil {
			return "", &ParameterError{In: f.in, Name: f.name, Err: malformedError{err}}
		}
		b.WriteString(hub.JoinTopic(text))
		b.WriteString(t.literals[i+1])
	}
	return b.String(), nil
}

// format returns a bound parameter as text; of a reference, its key.
func (f *field) format(v reflect.Value) (string, error) {
	if f.model != nil {
		return f.model.text(v), nil
	}
	return formatValue(v)
}

// formatValue returns a bound value as text. It is the value's own text, not the request's, so
// that 7 and 07 are one topic.
func formatValue(v reflect.Value) (string, error) {
	switch x := v.Addr().Interface().(type) {
	case encoding.TextMarshaler:
		text, err := x.MarshalText()
		return string(text), err
	case fmt.Stringer:
		return x.String(), nil
	}
	switch v.Kind() {
	case reflect.String:
		return v.String(), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.FormatInt(v.Int(), 10), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strconv.FormatUint(v.Uint(), 10), nil
	case reflect.Float32, reflect.Float64:
		return strconv.FormatFloat(v.Float(), 'g', -1, v.Type().Bits()), nil
	case reflect.Bool:
		return strconv.FormatBool(v.Bool()), nil
	}
	return fmt.Sprint(v.Interface()), nil
}
