package org.classkinfy.core

import java.nio.ByteBuffer
import java.security.MessageDigest

internal fun sha256(): MessageDigest = MessageDigest.getInstance("SHA-256")

internal fun sha256(data: ByteArray): String = hex(sha256().digest(data))

internal fun sha256(data: ByteBuffer): String = hex(sha256().also { it.update(data) }.digest())

internal fun hex(digest: ByteArray): String {
    val digits = "0123456789abcdef"
    val text = StringBuilder(2 * digest.size)
    for (byte in digest) text.append(digits[byte.toInt() shr 4 and 15]).append(digits[byte.toInt() and 15])
    return text.toString()
}
