package sandbox

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// Of many that make the key of the rules, all get the same. One that was cut short is made
// anew, and with the rules it goes.
func TestRulesKey(t *testing.T) {
	rt := &Runtime{root: t.TempDir()}
	if err := os.Mkdir(rt.rulesDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	keys := make([][]byte, 20)
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			key, err := rt.rulesKey()
			if err != nil {
				t.Error(err)
			}
			keys[i] = key
		})
	}
	wg.Wait()
	for _, k := range keys {
		if len(k) != 32 || !bytes.Equal(k, keys[0]) {
			t.Fatalf("keys %x and %x", keys[0], k)
		}
	}
	path := filepath.Join(rt.rulesDir(), keyFile)
	if err := os.Truncate(path, 5); err != nil {
		t.Fatal(err)
	}
	if k, err := rt.rulesKey(); err != nil || len(k) != 32 || bytes.Equal(k, keys[0]) {
		t.Errorf("after it was cut short: %x, %v", k, err)
	}
	if err := os.WriteFile(path+"-123", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := rt.removeRulesKey(); err != nil {
		t.Error(err)
	}
	if files, err := os.ReadDir(rt.rulesDir()); err != nil || len(files) > 0 {
		t.Errorf("left %v, %v", files, err)
	}
}
