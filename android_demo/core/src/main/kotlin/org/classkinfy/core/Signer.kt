package org.classkinfy.core

import java.math.BigInteger
import java.security.AlgorithmParameters
import java.security.GeneralSecurityException
import java.security.KeyFactory
import java.security.Signature
import java.security.interfaces.ECPublicKey
import java.security.spec.ECGenParameterSpec
import java.security.spec.ECParameterSpec
import java.security.spec.X509EncodedKeySpec
import java.util.Base64

/** Who made a bundle, as far as its signature tells: ECDSA over P-256 and SHA-256. */
sealed class Signer {
    /** No signature: damage is found, forgery is not. */
    object Unsigned : Signer() {
        override fun toString() = "unsigned"
    }

    /** Signed, by whoever holds [key]: nobody said whether to trust it. */
    class Unknown(@JvmField val key: String) : Signer() {
        override fun toString() = "signed by an unknown key"
    }

    /** Signed by a key that the app trusts. */
    class Trusted(@JvmField val key: String) : Signer() {
        override fun toString() = "signed by a trusted key"
    }

    internal companion object {
        private const val ALGORITHM = "ECDSA-P256-SHA256"
        private const val HALF = 32
        private const val HINT = "get the bundle from who holds a trusted key"

        /**
         * @param signature of `manifest.json.sig`, null without one
         * @throws BundleException it does not verify, or none of the trusted made it
         */
        fun of(manifest: ByteArray, signature: ByteArray?, trusted: List<String>): Signer {
            val known = trusted.map { encode(publicKey(it, "a trusted key")) }
            if (signature == null) {
                if (known.isEmpty()) return Unsigned
                throw badBundle("the bundle is not signed, and ${known.size} keys are trusted", HINT)
            }
            val json = Json.parse(signature, Bundle.SIGNATURE)
            json.member("algorithm").word(mapOf(ALGORITHM to true))
            val key = publicKey(json.member("public_key").text(), "its key")
            val both = decode(json.member("signature").text(), "its signature")
            if (both.size != 2 * HALF) {
                throw badBundle("the signature has ${both.size} bytes, not ${2 * HALF}", HINT)
            }
            if (!verifies(key, manifest, both)) {
                throw badBundle("the signature is not of this manifest: one of them was changed", HINT)
            }
            val text = encode(key)
            if (known.isEmpty()) return Unknown(text)
            if (text !in known) throw badBundle("the bundle is signed by another key than is trusted", HINT)
            return Trusted(text)
        }

        private fun verifies(key: ECPublicKey, manifest: ByteArray, both: ByteArray): Boolean = try {
            val verifier = Signature.getInstance("SHA256withECDSA")
            verifier.initVerify(key)
            verifier.update(manifest)
            verifier.verify(der(both))
        } catch (error: GeneralSecurityException) {
            throw badBundle("the signature cannot be verified: ${error.message}", HINT, error)
        }

        /** The sequence of two integers that Java takes, of the two halves that WebCrypto takes. */
        private fun der(both: ByteArray): ByteArray {
            val numbers = listOf(0, HALF).map { BigInteger(1, both.copyOfRange(it, it + HALF)).toByteArray() }
            val content = numbers.fold(ByteArray(0)) { all, n -> all + byteArrayOf(2, n.size.toByte()) + n }
            return byteArrayOf(48, content.size.toByte()) + content
        }

        private fun publicKey(text: String, what: String): ECPublicKey {
            val der = decode(text.lines().filterNot { it.startsWith("-----") }.joinToString("") { it.trim() }, what)
            val key = try {
                KeyFactory.getInstance("EC").generatePublic(X509EncodedKeySpec(der)) as? ECPublicKey
            } catch (error: GeneralSecurityException) {
                throw badBundle("$what is no public key: ${error.message}", HINT, error)
            }
            if (key == null || !onP256(key.params)) throw badBundle("$what is not on P-256", HINT)
            return key
        }

        private fun onP256(params: ECParameterSpec): Boolean {
            val p256 = AlgorithmParameters.getInstance("EC").run {
                init(ECGenParameterSpec("secp256r1"))
                getParameterSpec(ECParameterSpec::class.java)
            }
            return params.curve == p256.curve && params.generator == p256.generator && params.order == p256.order
        }

        private fun decode(text: String, what: String): ByteArray = try {
            Base64.getDecoder().decode(text)
        } catch (error: IllegalArgumentException) {
            throw badBundle("$what is not base64", HINT, error)
        }

        private fun encode(key: ECPublicKey): String = Base64.getEncoder().encodeToString(key.encoded)
    }
}
