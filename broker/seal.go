package broker

import (
	"bytes"
	"fmt"
	"hash/crc32"
)

// Settings and key records are stored behind a checksum of their name and value: who reads
// a wrong secret, epoch or job does harm with it.
//
//	<crc32c> <value>

func seal(name string, value []byte) []byte {
	return append(fmt.Appendf(nil, "%08x ", sealSum(name, value)), value...)
}

func sealSum(name string, value []byte) uint32 {
	return crc32.Update(crc32.Checksum([]byte(name), castagnoli), castagnoli, value)
}

// unseal returns the value that seal sealed.
func unseal(name string, b []byte) ([]byte, error) {
	sum, value, ok := bytes.Cut(b, []byte{' '})
	if !ok || string(sum) != fmt.Sprintf("%08x", sealSum(name, value)) {
		return nil, fmt.Errorf("%s: %w", name, errDamaged)
	}
	return value, nil
}
