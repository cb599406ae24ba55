package broker

import (
	"bytes"
	"fmt"
	"hash/crc32"
)

// A setting is stored behind a checksum of its key and its value: who reads a wrong
// secret or epoch does harm with it.
//
//	<crc32c> <value>

func sealSetting(key string, value []byte) []byte {
	return append(fmt.Appendf(nil, "%08x ", settingSum(key, value)), value...)
}

func settingSum(key string, value []byte) uint32 {
	return crc32.Update(crc32.Checksum([]byte(key), castagnoli), castagnoli, value)
}

// openSetting returns the value that sealSetting sealed.
func openSetting(key string, b []byte) ([]byte, error) {
	sum, value, ok := bytes.Cut(b, []byte{' '})
	if !ok || string(sum) != fmt.Sprintf("%08x", settingSum(key, value)) {
		return nil, fmt.Errorf("setting %s: %w", key, errDamaged)
	}
	return value, nil
}
