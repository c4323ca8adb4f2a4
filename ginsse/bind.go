package ginsse

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
)

// Sources of parameters, which are also the names of their struct tags.
const (
	inPath   = "path"
	inQuery  = "query"
	inHeader = "header"
)

var errMissing = errors.New("is missing")

// malformedError hides the text of a type's own decoding: it may quote the value, or say what is
// not the client's business.
type malformedError struct{ err error }

func (malformedError) Error() string   { return "is malformed" }
func (e malformedError) Unwrap() error { return e.err }

// binder fills a struct of parameters from a request. It is made once, at Mount.
type binder struct {
	fields []field
}

// field is one parameter and its place in the struct.
type field struct {
	index    []int
	in       string
	name     string // of the parameter
	required bool
	multiple bool // a slice: every value of the query parameter or header
	set      func(v reflect.Value, text string) error
	model    *Model // of a Ref, else nil
}

// newBinder makes the plan for a struct type, the parameters of a path and the models of its
// references. All mistakes are found here, so that a request meets none.
func newBinder(t reflect.Type, pathParams []string, models map[reflect.Type]*Model) (*binder, error) {
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("parameters must be a struct, %s is not", t)
	}
	b := &binder{}
	var errs []error
	for _, sf := range reflect.VisibleFields(t) {
		if sf.Anonymous {
			// An embedded struct's fields are visible themselves; behind a pointer they would
			// need a struct that nobody has made.
			if sf.Type.Kind() != reflect.Struct || isTagged(sf) || isRef(sf.Type) {
				errs = append(errs, fmt.Errorf("field %s: only a struct without a tag can be embedded, and no Ref", sf.Name))
			}
			continue
		}
		f, ok, err := newField(t, sf, pathParams, models)
		if err != nil {
			errs = append(errs, err)
		}
		if ok { // with an error too: the parameter has a field, if not a right one
			b.fields = append(b.fields, f)
		}
	}
	return b, errors.Join(append(errs, b.check(t, pathParams)...)...)
}

// check looks at the fields together: each path parameter has exactly one.
func (b *binder) check(t reflect.Type, pathParams []string) (errs []error) {
	owner := make(map[string]string)
	for _, f := range b.fields {
		key := f.in + " parameter " + strconv.Quote(f.name)
		if f.in == inHeader {
			key = f.in + " parameter " + strconv.Quote(http.CanonicalHeaderKey(f.name))
		}
		name := t.FieldByIndex(f.index).Name
		if other, ok := owner[key]; ok {
			errs = append(errs, fmt.Errorf("%s has two fields, %s and %s", key, other, name))
		}
		owner[key] = name
	}
	for i, p := range pathParams {
		if _, ok := owner[inPath+" parameter "+strconv.Quote(p)]; !ok {
			errs = append(errs, fmt.Errorf("path parameter %q has no field in %s", p, t))
		}
		for _, q := range pathParams[:i] {
			if p == q {
				errs = append(errs, fmt.Errorf("path parameter %q is there twice", p))
			}
		}
	}
	return errs
}

func isTagged(sf reflect.StructField) bool {
	for _, in := range []string{inPath, inQuery, inHeader} {
		if _, ok := sf.Tag.Lookup(in); ok {
			return true
		}
	}
	return false
}

func newField(t reflect.Type, sf reflect.StructField, pathParams []string, models map[reflect.Type]*Model) (f field, ok bool, err error) {
	f = field{index: sf.Index}
	for _, in := range []string{inPath, inQuery, inHeader} {
		tag, tagged := sf.Tag.Lookup(in)
		switch {
		case !tagged:
			continue
		case f.in != "":
			return f, false, fmt.Errorf("field %s has both a %s and a %s tag", sf.Name, f.in, in)
		}
		f.in = in
		var option string
		f.name, option, _ = strings.Cut(tag, ",")
		switch {
		case option == "required":
			f.required = true
		case option != "":
			return f, false, fmt.Errorf("field %s: unknown option %q in its %s tag", sf.Name, option, in)
		}
		if f.name == "" {
			return f, false, fmt.Errorf("field %s: its %s tag has no name", sf.Name, in)
		}
	}
	if f.name == "-" {
		return f, false, nil
	}
	if !sf.IsExported() {
		if f.in != "" {
			return f, false, fmt.Errorf("field %s has a %s tag but is not exported", sf.Name, f.in)
		}
		return f, false, nil
	}
	if f.in == "" {
		if f.name, err = matchPath(sf, pathParams); err != nil {
			return f, false, err
		}
		f.in = inPath
	}
	if f.in == inHeader && (strings.ContainsAny(f.name, " \t:,;") || http.CanonicalHeaderKey(f.name) == "Host") {
		// net/http has Host elsewhere.
		return f, false, fmt.Errorf("field %s: no request has a header %q", sf.Name, f.name)
	}
	if f.in == inPath {
		f.required = true
		if !slices.Contains(pathParams, f.name) {
			return f, false, fmt.Errorf("field %s names path parameter %q, which the path does not have", sf.Name, f.name)
		}
	}
	if isRef(sf.Type) {
		return f, true, f.planRef(sf, models)
	}
	return f, true, f.plan(t, sf)
}

// planRef decides which model a Ref's value is made with.
func (f *field) planRef(sf reflect.StructField, models map[reflect.Type]*Model) error {
	f.model = models[sf.Type]
	switch {
	case f.model == nil:
		return fmt.Errorf("field %s is a %s, and the route has no model for it; give it one with Models", sf.Name, sf.Type)
	case !f.required:
		return fmt.Errorf("field %s is a Ref, which cannot be absent; its %s tag needs the option required", sf.Name, f.in)
	}
	f.set = f.model.set
	return nil
}

// plan decides how the field's value is made of text.
func (f *field) plan(t reflect.Type, sf reflect.StructField) error {
	typ := sf.Type
	switch {
	case typ.Kind() == reflect.Slice && !isText(typ) && f.in != inPath:
		f.multiple = true
		typ = typ.Elem()
		if typ.Kind() == reflect.Uint8 && !isText(typ) {
			// Bytes: neither a text nor a list of small numbers is what everybody expects.
			typ = sf.Type
		}
	case typ.Kind() == reflect.Pointer && !isText(typ):
		if f.required {
			return fmt.Errorf("field %s is required: it needs no pointer", sf.Name)
		}
		typ = typ.Elem()
	}
	if f.set = setter(typ); f.set == nil {
		return fmt.Errorf("field %s of %s: a parameter cannot be a %s", sf.Name, t, sf.Type)
	}
	return nil
}

// matchPath finds the path parameter that a field without a tag stands for: the one of the same
// name, letter case, underscores and hyphens apart. For a Ref the parameter's name may have "ref"
// at its end.
func matchPath(sf reflect.StructField, pathParams []string) (string, error) {
	name, ref := sf.Name, isRef(sf.Type)
	var found []string
	for _, p := range pathParams {
		if fold(p) == fold(name) || ref && fold(p) == fold(name+"Ref") {
			found = append(found, p)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", fmt.Errorf("field %s matches no path parameter; a query or header parameter needs a tag", name)
	}
	return "", fmt.Errorf("field %s matches the path parameters %q; say which with a path tag", name, found)
}

func fold(s string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(s))
}

// bind fills v, a struct of the type the binder was made for.
func (b *binder) bind(c *gin.Context, v reflect.Value) error {
	var query url.Values
	if c.Request.URL.RawQuery != "" && slices.ContainsFunc(b.fields, func(f field) bool { return f.in == inQuery }) {
		var err error
		if query, err = url.ParseQuery(c.Request.URL.RawQuery); err != nil {
			// What cannot be parsed is left out: a filter that was meant would not be applied.
			return Status(http.StatusBadRequest, errors.New("the query is malformed"))
		}
	}
	for i := range b.fields {
		f := &b.fields[i]
		var texts []string
		switch f.in {
		case inPath:
			texts = []string{c.Param(f.name)}
		case inQuery:
			texts = query[f.name]
		case inHeader:
			texts = c.Request.Header[http.CanonicalHeaderKey(f.name)]
		}
		if err := f.fill(v.FieldByIndex(f.index), texts); err != nil {
			return &ParameterError{In: f.in, Name: f.name, Err: err}
		}
	}
	return nil
}

func (f *field) fill(v reflect.Value, texts []string) error {
	switch {
	case len(texts) == 0 || f.required && texts[0] == "":
		if f.required {
			return errMissing
		}
		return nil
	case f.multiple:
		list := reflect.MakeSlice(v.Type(), len(texts), len(texts))
		for i, text := range texts {
			if err := f.set(list.Index(i), text); err != nil {
				return err
			}
		}
		v.Set(list)
		return nil
	case len(texts) > 1:
		return errors.New("is there more than once")
	case v.Kind() == reflect.Pointer && !isText(v.Type()):
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	return f.set(v, texts[0])
}

var (
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
	duration        = reflect.TypeFor[time.Duration]()
)

// isText reports whether a type, or a pointer to it, decodes itself.
func isText(t reflect.Type) bool {
	return t.Kind() != reflect.Pointer && reflect.PointerTo(t).Implements(textUnmarshaler)
}

// setter returns how a value of a type is made of text, or nil for types that cannot be parameters.
func setter(t reflect.Type) func(v reflect.Value, text string) error {
	if isText(t) {
		return func(v reflect.Value, text string) error {
			if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)); err != nil {
				return malformedError{err}
			}
			return nil
		}
	}
	if t == duration {
		return func(v reflect.Value, text string) error {
			d, err := time.ParseDuration(text)
			if err != nil {
				return errors.New("must be a duration with a unit, such as 1m30s")
			}
			v.SetInt(int64(d))
			return nil
		}
	}
	switch t.Kind() {
	case reflect.String:
		return func(v reflect.Value, text string) error {
			v.SetString(text)
			return nil
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return func(v reflect.Value, text string) error {
			n, err := strconv.ParseInt(text, 10, t.Bits())
			if err != nil {
				return numberError(err, "a whole number")
			}
			v.SetInt(n)
			return nil
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return func(v reflect.Value, text string) error {
			n, err := strconv.ParseUint(text, 10, t.Bits())
			if err != nil {
				return numberError(err, "a whole number, not negative")
			}
			v.SetUint(n)
			return nil
		}
	case reflect.Float32, reflect.Float64:
		return func(v reflect.Value, text string) error {
			x, err := strconv.ParseFloat(text, t.Bits())
			if err == nil && (math.IsNaN(x) || math.IsInf(x, 0)) {
				err = strconv.ErrSyntax // they would pass an application's own limits
			}
			if err != nil {
				return numberError(err, "a number")
			}
			v.SetFloat(x)
			return nil
		}
	case reflect.Bool:
		return func(v reflect.Value, text string) error {
			x, err := strconv.ParseBool(text)
			if err != nil {
				return errors.New("must be true or false")
			}
			v.SetBool(x)
			return nil
		}
	}
	return nil
}

func numberError(err error, want string) error {
	if errors.Is(err, strconv.ErrRange) {
		return errors.New("is out of range")
	}
	return errors.New("must be " + want)
}
