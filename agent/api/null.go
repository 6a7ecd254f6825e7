package api

import "reflect"

// withoutNull returns v with an empty list or map wherever it has a nil one, so
// that readers of the JSON find [] and {} and never null.
func withoutNull(v any) any {
	in := reflect.ValueOf(v)
	out := reflect.New(in.Type()).Elem()
	out.Set(in)
	fill(out)
	return out.Interface()
}

// fill changes v, which must be settable. Backing arrays may be shared with the
// backend, so lists are copied before their elements change.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Slice:
		fillSlice(v)
	case reflect.Map:
		if v.IsNil() {
			v.Set(reflect.MakeMap(v.Type()))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() {
				fill(f)
			}
		}
	}
}

func fillSlice(v reflect.Value) {
	out := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
	reflect.Copy(out, v)
	for i := range out.Len() {
		fill(out.Index(i))
	}
	v.Set(out)
}
