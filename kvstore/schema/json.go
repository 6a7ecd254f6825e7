package schema

import (
	"encoding/json"
	"fmt"
)

// encode renders a value that always can be.
func encode(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return b, nil
}

// decode reads a JSON object and ignores fields that it does not know.
func decode[T any](key string, value []byte) (T, error) {
	var v T
	if err := json.Unmarshal(value, &v); err != nil {
		return v, fmt.Errorf("decode %s: %w", key, err)
	}
	return v, nil
}

// refuse says which field of which key cannot be believed.
func refuse(key, field, why string, args ...any) error {
	return fmt.Errorf("decode %s: %s: %s", key, field, fmt.Sprintf(why, args...))
}
